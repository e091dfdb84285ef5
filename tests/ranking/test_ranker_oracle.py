"""The compiled path beside the oracle: the same answers to the bit, the same faults to the letter."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from oracle.calls import OracleCalls
from support import rank_world as world

from rankd.errors import RankdError, RequestError
from rankd.limits import RequestLimits
from rankd.ranking.faults import to_error
from rankd.ranking.plan import Plan
from rankd.ranking.ranker import Method, Pending, Ranked, Ranker
from rankd.signals.embedded import open_embedded
from rankd.signals.store import SignalStore
from rankd.v1 import ranking_pb2 as pb

NOW_S = world.NOW_S
LIMITS = RequestLimits(max_candidates=40, max_columns=3, max_id_bytes=300, max_batch_lists=4, max_batch_candidates=60)
EXAMPLES = int(400 * float(os.environ.get("RANKD_FUZZ_SCALE", "1")))
DEGRADATION = pb.RankResponse(degradation=pb.Degradation(level=2, reasons=["overload"])).SerializeToString()

NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, np.nan, 1e30, -1e30]), st.floats(-4, 4, width=32, allow_nan=False)
)
TEXTS = st.one_of(
    st.sampled_from(["", "red shoe", "  RED\tShoe! ", "größe", "GRÖSSE", "ﬁ ①", "a_b-c 1", "\x1cred\x1fshoe"]),
    st.text(max_size=12),
)
WORDS = st.one_of(st.sampled_from(["", "acme", "bolt", "größe", "phone", "unheard-of", "new"]), st.text(max_size=4))
IDS = st.one_of(st.sampled_from(world.ITEMS + world.USERS + world.QUERIES + ["unknown", "RED  shoe", "GRÖSSE"]),
                st.text(min_size=1, max_size=6))  # fmt: skip


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def store(loop: asyncio.AbstractEventLoop) -> Iterator[SignalStore]:
    ticks = itertools.count(NOW_S - 2000, 37.5)
    store = loop.run_until_complete(open_embedded(world.SCHEMA, None, 1000, clock=lambda: next(ticks)))
    loop.run_until_complete(world.fill(store))
    yield store
    loop.run_until_complete(store.close())


@pytest.fixture(scope="module")
def plans(store: SignalStore) -> dict[str, Plan]:
    return world.plans(store)


@pytest.fixture(scope="module")
def ranker(plans: dict[str, Plan], store: SignalStore) -> Ranker:
    return Ranker(plans, store, LIMITS)


@pytest.fixture(scope="module")
def oracle(plans: dict[str, Plan], store: SignalStore) -> OracleCalls:
    return OracleCalls(plans, store, LIMITS, NOW_S)


def chance(draw: st.DrawFn, percent: int) -> bool:
    return draw(st.integers(0, 99)) < percent


@st.composite
def candidates(draw: st.DrawFn, profile: str, faults: bool) -> pb.Candidates:
    ids = draw(st.lists(IDS, max_size=14, unique=True))
    n = len(ids)
    message = pb.Candidates(ids=ids)
    if chance(draw, 50):
        message.base_scores.extend(draw(st.lists(NUMBERS, min_size=n, max_size=n)))
    for name in next(p for p in world.PROFILES if p.name == profile).columns:
        if chance(draw, 60):
            message.columns.add(name=name, values=draw(st.lists(NUMBERS, min_size=n, max_size=n)))
    if faults and chance(draw, 25):
        _spoil_candidates(draw, message)
    return message


def _spoil_candidates(draw: st.DrawFn, c: pb.Candidates) -> None:
    at = draw(st.integers(0, max(0, len(c.ids) - 1)))
    match draw(st.integers(0, 9)):
        case 0:
            c.ids.append("")
        case 1:
            c.ids.append("é" * 151)
        case 2:
            c.ids.append(c.ids[at] if c.ids else "item-0")
            c.ids.append("item-0")
            c.ids.append("item-0")
        case 3:
            c.base_scores.append(1)
        case 4:
            c.columns.add(name="bm52", values=[0.0] * len(c.ids))
        case 5:
            c.columns.add(name="bm25", values=[0.0] * len(c.ids))
        case 6 if c.columns:
            c.columns[-1].values.append(1)
        case 7 if c.columns and c.ids:
            c.columns[-1].values[at] = -np.inf
        case 8 if c.base_scores:
            c.base_scores[at] = np.inf
        case _:
            c.ids.extend(f"many-{i}" for i in range(41))


@st.composite
def common(draw: st.DrawFn, message: Any, profile: str, faults: bool) -> None:
    message.profile = profile
    message.surface = draw(st.integers(0, 4))
    if chance(draw, 30):
        message.request_id = draw(st.sampled_from(["mine", "ü" * 60]))
    message.query.text = draw(TEXTS)
    message.query.language_code = draw(st.sampled_from(["", "de", "en"]))
    message.user.user_id = draw(st.sampled_from(["", "ann", "nobody"]))
    message.user.visitor_id = draw(st.sampled_from(["", "bob"]))
    message.user.session_id = draw(st.sampled_from(["", "s1", "s2", "s3"]))
    message.user.segments.extend(draw(st.lists(WORDS, max_size=4)))
    if chance(draw, 50):
        message.as_of.seconds = draw(
            st.one_of(st.integers(0, 2_000_000_000), st.integers(int(NOW_S) - 4000, int(NOW_S) + 4000))
        )
        message.as_of.nanos = draw(st.sampled_from([0, 5, 500_500_000, 999_999_999]))
    if profile == "everything":
        _context(draw, message.context_features)
    if faults and chance(draw, 30):
        _spoil_common(draw, message)


def _context(draw: st.DrawFn, context: Any) -> None:
    if chance(draw, 50):
        context["hour"].number = draw(NUMBERS)
    if chance(draw, 50):
        context["vip"].flag = draw(st.booleans())
    if chance(draw, 50):
        context["since"].timestamp.seconds = draw(st.integers(-5, 1_700_000_000))
    if chance(draw, 50):
        context["device"].category = draw(WORDS)
    if chance(draw, 50):
        context["note"].text = draw(TEXTS)
    if chance(draw, 20):
        context["unused"].text = draw(TEXTS)
    if chance(draw, 50):
        context["likes"].set.values.extend(draw(st.lists(WORDS, max_size=4, unique=True)))
    if chance(draw, 50):
        context["taste"].vector.values.extend(draw(st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3)))


def _spoil_common(draw: st.DrawFn, m: Any) -> None:
    match draw(st.integers(0, 21)):
        case 0:
            m.profile = draw(st.sampled_from(["", "everythink", "z" * 400]))
        case 1:
            m.request_id = "r" * 129
        case 2:
            m.query.text = "ß" * 4097
        case 3:
            m.query.language_code = "l" * 65
        case 4:
            setattr(m.user, draw(st.sampled_from(["visitor_id", "user_id", "session_id"])), "u" * 301)
        case 5:
            m.user.segments.extend(["s"] * 257)
        case 6:
            m.surface = draw(st.sampled_from([-1, 5, 2**31 - 1]))
        case 7:
            for i in range(17):
                m.labels[f"k{i}"] = "v"
        case 8:
            m.labels["k" * 129] = "v"
        case 9:
            m.labels['a"\n'] = "v" * 129
        case 10:
            m.as_of.seconds = draw(st.sampled_from([253402300800, -62135596801, 2**63 - 1]))
        case 11:
            m.as_of.nanos = draw(st.sampled_from([-1, 10**9]))
        case 12:
            m.context_features["howr"].number = 1
        case 13:
            m.context_features.clear()
            m.context_features["hour"].category = "x"
        case 14:
            m.context_features["hour"].SetInParent()
        case 15:
            m.context_features["hour"].number = draw(st.sampled_from([np.inf, -np.inf]))
        case 16:
            m.context_features["since"].timestamp.seconds = 2**60
        case 17:
            m.context_features["note"].text = "n" * 8193
        case 18:
            m.context_features["likes"].set.values.extend(["a", "b", "b", "a"])
        case 19:
            m.context_features["taste"].vector.values.extend([1, 2, 3, 4])
        case 20:
            m.context_features["taste"].Clear()
            m.context_features["taste"].vector.values.extend([1, np.nan, np.inf])
        case 21:
            m.context_features["likes"].Clear()
            m.context_features["likes"].set.values.extend(f"{i}" for i in range(4097))


PROFILE_NAMES = st.sampled_from(["everything"] * 6 + [p.name for p in world.PROFILES])


@st.composite
def rank_requests(draw: st.DrawFn, faults: bool = True) -> pb.RankRequest:
    message = pb.RankRequest()
    profile = draw(PROFILE_NAMES)
    draw(common(message, profile, faults))
    message.candidates.CopyFrom(draw(candidates(profile, faults)))
    message.view = draw(st.sampled_from([0, 1, 2, 3]))
    if chance(draw, 40):
        message.page_size = draw(st.integers(1, 6))
    if faults and chance(draw, 4):
        message.page_size = draw(st.sampled_from([0, 41, 2**32 - 1]))
    if faults and chance(draw, 4):
        message.view = draw(st.sampled_from([4, -1]))
    if faults and chance(draw, 3):
        message.page_token = draw(st.sampled_from(["x", "é", "A" * 64]))
    return message


def done(ranked: Ranked | Pending) -> Ranked:
    return ranked.run() if isinstance(ranked, Pending) else ranked


def plain(response: Any) -> Any:
    """A response as it can be compared: NaNs equal, a token only by being there."""
    other = type(response)()
    other.CopyFrom(response)
    if isinstance(other, pb.RankResponse) and other.next_page_token:
        other.next_page_token = "some"
    return other.SerializeToString(deterministic=True)


def told(error: Any) -> Any:
    """An error as it can be compared. Of several unknown or faulty entries of a map, any may be named first."""
    assert isinstance(error, RequestError), error
    return error.reason, error.violations


def same_error(expected: RankdError, ranked: Ranked) -> None:
    assert ranked.fault is not None, f"expected {expected}"
    assert ranked.answer == b""
    assert told(to_error(ranked.fault)) == told(expected)


SETTINGS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@given(request=rank_requests(), max_rescored=st.sampled_from([None, None, None, 0, 2, 100]))
def test_rank(loop: Any, ranker: Ranker, oracle: OracleCalls, request: Any, max_rescored: int | None) -> None:
    ranked = done(
        ranker.rank(
            Method.RANK, request.SerializeToString(), request_id="made", now_s=NOW_S, max_rescored=max_rescored,
            degradation=DEGRADATION,
        )
    )  # fmt: skip
    try:
        calls = replace(oracle, max_rescored=max_rescored)
        expected = loop.run_until_complete(calls.rank(request, "made"))
    except RequestError as error:
        same_error(error, ranked)
        return
    assert ranked.fault is None, ranked.fault
    answer = pb.RankResponse.FromString(ranked.answer)
    assert answer.HasField("degradation") == ranked.degraded
    answer.ClearField("degradation")
    assert plain(answer) == plain(expected)
    assert ranked.request_id == answer.request_id
    assert ranked.candidate_count == answer.total_count == len(request.candidates.ids)
    assert ranked.missing_count == len(answer.missing_ids)
    assert (ranked.rescored_count, ranked.returned_count) == (answer.rescored_count, len(answer.ids))


@SETTINGS
@given(request=rank_requests(faults=False), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), data=st.data())
def test_later_pages(loop: Any, ranker: Ranker, oracle: OracleCalls, request: Any, sizes: Any, data: Any) -> None:
    if request.profile == "classes":
        request.profile = "plain"
    ours, theirs, now_s = "", "", NOW_S
    for page_size in [*sizes, 40]:
        request.page_size = page_size
        request.view = data.draw(st.sampled_from([1, 2, 3]))
        request.page_token = ours
        ranked = done(ranker.rank(Method.RANK, request.SerializeToString(), request_id="made", now_s=now_s))
        assert ranked.fault is None, ranked.fault
        answer = pb.RankResponse.FromString(ranked.answer)
        request.page_token = theirs
        expected = loop.run_until_complete(replace(oracle, now_s=now_s).rank(request, "made"))
        assert plain(answer) == plain(expected)
        ours, theirs = answer.next_page_token, expected.next_page_token
        now_s += 1000
        if not ours:
            break


@SETTINGS
@given(data=st.data())
def test_score(loop: Any, ranker: Ranker, oracle: OracleCalls, data: Any) -> None:
    request = pb.ScoreRequest()
    profile = data.draw(PROFILE_NAMES)
    data.draw(common(request, profile, True))
    request.candidates.CopyFrom(data.draw(candidates(profile, True)))
    request.raw, request.include_features = data.draw(st.booleans()), data.draw(st.booleans())
    ranked = done(ranker.rank(Method.SCORE, request.SerializeToString(), request_id="made", now_s=NOW_S))
    try:
        expected = loop.run_until_complete(oracle.score(request, "made"))
    except RequestError as error:
        same_error(error, ranked)
        return
    assert ranked.fault is None, ranked.fault
    assert plain(pb.ScoreResponse.FromString(ranked.answer)) == plain(expected)


@SETTINGS
@given(data=st.data())
def test_batch_rank(loop: Any, ranker: Ranker, oracle: OracleCalls, data: Any) -> None:
    request = pb.BatchRankRequest()
    profile = data.draw(PROFILE_NAMES)
    data.draw(common(request.common, profile, data.draw(st.booleans())))
    request.common.view = data.draw(st.integers(0, 3))
    if data.draw(st.booleans()):
        request.common.page_size = data.draw(st.integers(1, 5))
    for _ in range(data.draw(st.integers(1, 3))):
        one = request.lists.add(candidates=data.draw(candidates(profile, True)))
        one.request_id = data.draw(st.sampled_from(["", "", "own", "r" * 129]))
        if data.draw(st.booleans()):
            one.page_size = data.draw(st.sampled_from([1, 3, 0, 50]))
    match data.draw(st.integers(0, 30)):
        case 0:
            request.common.candidates.SetInParent()
        case 1:
            request.common.page_token = "x"
        case 2:
            del request.lists[:]
        case 3:
            request.lists.extend([request.lists[0]] * 4)
        case 4:
            for one in request.lists:
                one.candidates.ids.extend(f"more-{i}" for i in range(39))
        case 5:
            request.common.page_size = 99
        case 6:
            request.common.view = 9
    ranked = done(ranker.rank(Method.BATCH_RANK, request.SerializeToString(), request_id="ü" * 128, now_s=NOW_S))
    try:
        expected = loop.run_until_complete(oracle.batch_rank(request, "ü" * 128))
    except RequestError as error:
        same_error(error, ranked)
        return
    assert ranked.fault is None, ranked.fault
    _compare_lists(ranked, expected)


def _compare_lists(ranked: Ranked, expected: list[Any]) -> None:
    """Errors are spliced in at their offsets, as a server does it; then the whole is one message."""
    faults = {at: fault for at, _, fault in ranked.list_faults}
    whole, start = b"", 0
    for _, offset, _ in ranked.list_faults:
        whole += ranked.answer[start:offset]
        start = offset
        mark = pb.BatchRankResponse.Result()
        mark.error.code = 3
        whole += pb.BatchRankResponse(results=[mark]).SerializeToString()
    results = pb.BatchRankResponse.FromString(whole + ranked.answer[start:]).results
    assert len(results) == len(expected) == ranked.list_count
    for at, (result, wanted) in enumerate(zip(results, expected, strict=True)):
        if isinstance(wanted, RankdError):
            assert result.HasField("error")
            assert told(to_error(faults[at])) == told(wanted)
        else:
            assert plain(result.response) == plain(wanted)


@SETTINGS
@example(b"\xff")
@given(st.binary(max_size=60))
def test_what_protobuf_refuses_is_malformed(ranker: Ranker, data: bytes) -> None:
    ranked = done(ranker.rank(Method.RANK, data, request_id="made", now_s=NOW_S))
    try:
        pb.RankRequest.FromString(data)
    except Exception as error:
        assert re.search("parsing", str(error))
        assert ranked.fault is not None and ranked.fault.kind == "malformed"
        assert ranked.request_id == "made"
    else:
        assert ranked.fault is None or ranked.fault.kind != "malformed"
