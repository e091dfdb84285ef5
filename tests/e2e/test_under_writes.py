"""Ranking while the store is rewritten: every row of one write, every page of one order; and after a restart."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fakes import Weighted
from support.serving import SCHEMA, Client, running

from rankd.models.scorer import LoadedModel
from rankd.ranking.build import build_plan
from rankd.ranking.plan import Plan
from rankd.ranking.ranker import Pending
from rankd.signals.embedded import open_embedded
from rankd.signals.store import SignalStore
from rankd.types.profile import ContextFeature, ContextKind, Feature, Profile
from rankd.v1 import ranking_pb2 as pb
from rankd.v1 import signals_pb2 as sp

ROUNDS = 24 * int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
IDS = [f"i{i}" for i in range(400)]
MEMBERS = [f"m{i}" for i in range(8)]
FILLERS = [f"f{i}" for i in range(63)]

CHECK = Profile(
    "check",
    context={
        "likes": ContextFeature("likes", ContextKind.SET),
        "taste": ContextFeature("taste", ContextKind.EMBEDDING, dimension=3),
    },
    features=(
        Feature("owner", "item.price"),
        Feature("version", "item.stock"),
        Feature("in_vector", "dot(context.taste, item.vector)"),
        Feature("in_map", 'lookup(item.weights, "v")'),
        Feature("in_set", "overlap(context.likes, item.tags)"),
        Feature("in_text", "token_count(item.title)"),
        Feature("in_brand", 'where(item.brand == "even", 0, 1)'),
    ),
    model="m",
)
"""Every feature but the first tells the version of the write that it came from."""


def plans(store: SignalStore, cost: float) -> dict[str, Plan]:
    scorer = Weighted({"version": 1.0, "owner": 0.0}, cost)
    return {"check": build_plan(CHECK, SCHEMA, store.categories, {"m": LoadedModel("m", "m@0", scorer)})}


def write(ids: list[str], version: int) -> sp.WriteSignalsRequest:
    n, sets = len(ids), version % 8 + 1
    column = sp.SignalColumn
    return sp.WriteSignalsRequest(
        entity="item",
        ids=ids,
        columns=[
            column(signal="price", floats=sp.FloatValues(values=[float(i[1:]) for i in ids])),
            column(signal="stock", ints=sp.IntValues(values=[version] * n)),
            column(signal="brand", strings=sp.StringValues(values=["odd" if version % 2 else "even"] * n)),
            column(signal="title", strings=sp.StringValues(values=["word " * sets] * n)),
            column(signal="vector", embeddings=sp.EmbeddingValues(dimension=3, values=[version, 0, 0] * n)),
            column(signal="tags", sets=sp.SetValues(values=MEMBERS[:sets] * n, lengths=[sets] * n)),
            column(
                signal="weights",
                maps=sp.MapValues(keys=[*FILLERS, "v"] * n, values=[*[-1.0] * 63, version] * n, lengths=[64] * n),
            ),
        ],
    )


def request(ids: list[str], **more: object) -> pb.RankRequest:
    made = pb.RankRequest(
        profile="check", request_id="r", candidates=pb.Candidates(ids=ids), view=pb.VIEW_FEATURES, **more
    )
    made.context_features["likes"].set.values.extend(MEMBERS)
    made.context_features["taste"].vector.values.extend((1, 0, 0))
    return made


def check(answer: pb.RankResponse) -> int:
    """Every row is of one write to its own id, or all missing; returns how many were known."""
    features = {f.name: np.array(f.values) for f in answer.features}
    missing = set(answer.missing_ids)
    for i, id_ in enumerate(answer.ids):
        row = {name: values[i] for name, values in features.items()}
        if id_ in missing:
            assert all(np.isnan(row[name]) for name in row if name not in ("in_brand", "in_set", "in_text")), (id_, row)
            continue
        version = row["version"]
        sets = version % 8 + 1
        assert row == {
            "owner": float(id_[1:]),
            "version": version,
            "in_vector": version,
            "in_map": version,
            "in_set": sets,
            "in_text": sets,
            "in_brand": version % 2,
        }, id_
    return len(answer.ids) - len(missing)


def late(function: Callable[..., Any]) -> Callable[..., Any]:
    rng = random.Random(3)

    def run(*arguments: Any) -> Any:
        time.sleep(0.03 if rng.random() < 0.3 else 0.0)  # several writes long
        return function(*arguments)

    return run


async def churn(client: Client, done: asyncio.Event, seed: int) -> None:
    """Writes and deletes until told to stop: columns grow, arenas are compacted, rows are reused."""
    rng = random.Random(seed)
    version = 0
    while not done.is_set():
        version += 1
        await client.signals.WriteSignals(write(rng.sample(IDS, rng.choice((1, 50, 400))), version))
        if version % 3 == 0:
            await client.signals.DeleteSignals(sp.DeleteSignalsRequest(entity="item", ids=rng.sample(IDS, 60)))


@pytest.mark.parametrize("cost", [0.001, 1e6], ids=["inline", "thread"])
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "memory"])
async def test_every_row_is_of_one_write_and_every_page_of_one_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: float, durable: bool
) -> None:
    if cost > 1:
        # A thread that starts late: what it was given must not change meanwhile.
        monkeypatch.setattr(Pending, "run", late(Pending.run))
    store = await open_embedded(SCHEMA, tmp_path if durable else None, 1_000)
    async with running(plans(store, cost), store) as (_, client):
        await client.signals.WriteSignals(write(IDS, 0))  # most are known however late the writers are
        done = asyncio.Event()
        writers = [asyncio.create_task(churn(client, done, seed)) for seed in (1, 2)]

        async def rank(seed: int) -> int:
            rng, total = random.Random(seed), 0
            for _ in range(ROUNDS // 4):
                total += check(await client.ranking.Rank(request(rng.sample(IDS, 300))))
                ids, size, token, seen = rng.sample(IDS, 41), rng.choice((1, 2, 7, 40, 41, 42)), "", []
                while True:
                    page = await client.ranking.Rank(request(ids, page_size=size, page_token=token))
                    check(page)
                    assert list(page.ranks) == list(range(len(seen) + 1, len(seen) + len(page.ids) + 1))
                    seen += page.ids
                    token = page.next_page_token
                    if not token:
                        break
                assert sorted(seen) == sorted(ids)
            return total

        try:
            known = sum(await asyncio.gather(*(rank(seed) for seed in range(4))))
        finally:
            done.set()
            await asyncio.gather(*writers)
    assert known > ROUNDS * 50


async def test_the_same_bytes_after_a_restart(tmp_path: Path) -> None:
    store = await open_embedded(SCHEMA, tmp_path, 1_000)
    asked = request(IDS, page_size=100)
    asked.as_of.seconds = 1_800_000_000
    async with running(plans(store, 1.0), store) as (_, client):
        # Categories get codes in another order than on disk, and rows are reused.
        await client.signals.WriteSignals(write(IDS[200:], 7))
        await client.signals.DeleteSignals(sp.DeleteSignalsRequest(entity="item", ids=IDS[220:300]))
        for version, start in enumerate(range(0, 200, 40)):
            await client.signals.WriteSignals(write(IDS[start : start + 40][::-1], version))
        before = await client.raw("RankingService/Rank")(asked.SerializeToString())
        assert before == await client.raw("RankingService/Rank")(asked.SerializeToString())
    store = await open_embedded(SCHEMA, tmp_path, 1_000)
    async with running(plans(store, 1.0), store) as (_, client):
        assert await client.raw("RankingService/Rank")(asked.SerializeToString()) == before
