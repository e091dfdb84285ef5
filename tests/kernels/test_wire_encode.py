"""Answers from C against protobuf's own deterministic bytes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rankd.kernels import wire
from rankd.v1 import ranking_pb2 as pb

NAN = float("nan")
NUMBERS = (0.0, -0.0, 1.5, -7.25, NAN, 1e300, 5e-324, float("inf"))
IDS = (
    "",
    "a",
    "sku-1",
    "item-123",
    "0123456789abcde",
    "0123456789abcdef",
    "0123456789abcdefg",
    "ключ€😀",
    "x" * 127,
    "y" * 300,
)


def answer_fields(rng: random.Random, count: int, most: int) -> dict[str, Any]:
    """Arguments of encode_answer: a page of `count` of `most` candidates."""
    ids = [rng.choice((*IDS, f"sku-{i}")) for i in range(most)]
    columns = rng.choice((0, 1, 3))
    return {
        "request_id": rng.choice(("", "r-1", "x" * 128)),
        "versions": rng.choice((("", "", ""), ("0123456789ab", "m@0123456789ab", "s"))),
        "ids": ids,
        "indexes": rng.sample(range(most), count),
        "first_rank": rng.choice((1, 2, 100, 127, 128, 16_000, 2**21 - 3, 2**28 - 1)),
        "scores": [rng.choice(NUMBERS) for _ in range(most)] if rng.random() < 0.6 else None,
        "base_scores": [rng.random() for _ in range(most)] if rng.random() < 0.6 else None,
        "features": [(rng.choice(IDS), [rng.random() for _ in range(most)]) for _ in range(columns)],
        "signal_ages": [(rng.choice(IDS), [rng.random() for _ in range(most)]) for _ in range(columns)],
        "total_count": rng.choice((0, 1, most, 2**32 - 1)),
        "rescored_count": rng.choice((0, 1, most)),
        "missing": sorted(rng.sample(range(most), rng.randint(0, most))),
        "next_page_token": rng.choice(("", "token" * 9)),
        "timings": [(rng.choice(("model", "")), rng.choice(NUMBERS)) for _ in range(rng.choice((0, 2)))],
    }


def answer_message(fields: dict[str, Any]) -> pb.RankResponse:
    """The same as protobuf's message."""
    ids, indexes = fields["ids"], fields["indexes"]

    def chosen(values: Any) -> list[Any]:
        return [values[i] for i in indexes]

    profile, model, schema = fields["versions"]
    message = pb.RankResponse(
        request_id=fields["request_id"],
        versions=pb.Versions(profile=profile, model=model, schema=schema),
        ids=chosen(ids),
        ranks=range(fields["first_rank"], fields["first_rank"] + len(indexes)),
        indexes=indexes,
        total_count=fields["total_count"],
        rescored_count=fields["rescored_count"],
        missing_ids=[ids[i] for i in fields["missing"]],
        next_page_token=fields["next_page_token"],
    )
    if fields["scores"] is not None:
        message.scores.extend(chosen(fields["scores"]))
    if fields["base_scores"] is not None:
        message.base_scores.extend(chosen(fields["base_scores"]))
    for name, values in fields["features"]:
        message.features.add(name=name, values=chosen(values))
    for name, values in fields["signal_ages"]:
        message.signal_ages.add(name=name, ages_s=chosen(values))
    for stage, microseconds in fields["timings"]:
        message.timings.add(stage=stage, microseconds=microseconds)
    return message


@pytest.mark.parametrize("most", [0, 1, 2, 7, 100, 300, 17_000])
def test_answers_are_protobufs_bytes(most: int) -> None:
    rng = random.Random(most)
    for _ in range(300 if most <= 100 else 5):
        fields = answer_fields(rng, rng.randint(0, most), most)
        message = answer_message(fields)
        assert wire.encode_answer(**fields) == message.SerializeToString(deterministic=True)
        batch = pb.BatchRankResponse(results=[pb.BatchRankResponse.Result(response=message)])
        assert wire.encode_answer(**fields, as_result=True) == batch.SerializeToString(deterministic=True)


def test_results_joined_are_one_batch() -> None:
    rng = random.Random(5)
    fields = [answer_fields(rng, 3, 5) for _ in range(4)]
    error = pb.BatchRankResponse(results=[pb.BatchRankResponse.Result()])
    error.results[0].error.code = 3
    pieces = [wire.encode_answer(**one, as_result=True) for one in fields]
    joined = pb.BatchRankResponse.FromString(b"".join([*pieces[:2], error.SerializeToString(), *pieces[2:]]))
    responses = [result.response for result in joined.results if result.HasField("response")]
    expected = [answer_message(one) for one in fields]
    assert [m.SerializeToString() for m in responses] == [m.SerializeToString() for m in expected]
    assert joined.results[2].error.code == 3


def test_further_fields_come_last() -> None:
    fields = answer_fields(random.Random(6), 3, 5)
    degradation = pb.RankResponse(degradation=pb.Degradation(level=2, reasons=["overload"]))
    message = answer_message(fields)
    told = pb.RankResponse(degradation=pb.Degradation(reasons=["signals_unavailable"]))
    message.MergeFrom(told)
    message.MergeFrom(degradation)
    after = {"told": told.SerializeToString(), "degradation": degradation.SerializeToString()}
    encoded = wire.encode_answer(**fields, **after)
    assert encoded.endswith(after["told"] + after["degradation"])
    assert message.degradation == pb.Degradation(level=2, reasons=["signals_unavailable", "overload"])
    assert pb.RankResponse.FromString(encoded).SerializeToString() == message.SerializeToString()


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_scores_are_protobufs_bytes(count: int) -> None:
    rng = random.Random(count)
    for _ in range(200):
        ids = [rng.choice(IDS) for _ in range(count)]
        outputs = [(f"class_{i}", [rng.choice(NUMBERS) for _ in ids]) for i in range(rng.choice((0, 1, 3)))]
        features = [(rng.choice(IDS), [rng.random() for _ in ids]) for _ in range(rng.choice((0, 2)))]
        missing = sorted(rng.sample(range(count), rng.randint(0, count)))
        profile, model, schema = versions = rng.choice((("", "", ""), ("p", "m@1", "")))
        message = pb.ScoreResponse(
            request_id="r",
            versions=pb.Versions(profile=profile, model=model, schema=schema),
            outputs=[pb.ModelOutput(name=name, values=values) for name, values in outputs],
            features=[pb.FeatureColumn(name=name, values=values) for name, values in features],
            missing_ids=[ids[i] for i in missing],
        )
        message.signal_ages.extend(pb.SignalAges(name=name, ages_s=values) for name, values in features)
        message.degradation.reasons.append("signals_unavailable")
        told = pb.RankResponse(degradation=message.degradation).SerializeToString()
        encoded = wire.encode_scores(
            ids=ids, request_id="r", versions=versions, outputs=outputs, features=features, missing=missing,
            signal_ages=features, told=told,
        )  # fmt: skip
        assert encoded == message.SerializeToString(deterministic=True)


def test_the_desk_refuses_positions_that_are_none() -> None:
    with pytest.raises(ValueError, match="expected positions of 2 ids"):
        wire.encode_answer(ids=["a", "b"], indexes=[2])
    with pytest.raises(ValueError, match="expected 2 values, got 1"):
        wire.encode_answer(ids=["a", "b"], indexes=[1], scores=[1.0])
