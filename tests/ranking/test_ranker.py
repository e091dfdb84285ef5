"""Ranker beside what docs/ranking.md says, worked out in plain Python; test_ranker_oracle.py has the rest."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import rank_world as world
from support.fakes import Weighted

from rankd.errors import DeadlinePassedError, Reason, RequestError
from rankd.kernels.rank import FAULTS, FIELDS
from rankd.limits import RequestLimits
from rankd.ranking import faults
from rankd.ranking.faults import RankFault, to_error
from rankd.ranking.plan import Versions
from rankd.ranking.ranker import Method, Pending, Ranked, Ranker
from rankd.signals.embedded import open_embedded
from rankd.signals.store import ColumnValues, SignalStore, WindowValues, WriteBatch
from rankd.types.text import composite_id
from rankd.v1 import ranking_pb2 as pb

NOW_S = 1_700_000_000.0
VALUES = st.one_of(st.sampled_from([0.0, 1.0, 2.0, math.nan]), st.floats(-100, 100, width=32))
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
async def store() -> AsyncIterator[SignalStore]:
    store = await open_embedded(world.SCHEMA, None, 1000)
    await world.fill(store)
    yield store
    await store.close()


@pytest.fixture
def ranker(store: SignalStore) -> Ranker:
    return Ranker(world.plans(store), store, RequestLimits())


def asked(values: Sequence[float], profile: str = "sent", **more: Any) -> pb.RankRequest:
    ids = more.pop("ids", [f"id-{i}" for i in range(len(values))])
    candidates = pb.Candidates(ids=ids, columns=[pb.Column(name="bm25", values=values)])
    return pb.RankRequest(profile=profile, candidates=candidates, **more)


def call(ranker: Ranker, request: Any, method: Method = Method.RANK, **options: Any) -> Ranked:
    ranked = ranker.rank(method, request.SerializeToString(), **{"request_id": "made", "now_s": NOW_S, **options})
    assert isinstance(ranked, Ranked)
    return ranked


def rank(ranker: Ranker, request: pb.RankRequest, **options: Any) -> pb.RankResponse:
    ranked = call(ranker, request, **options)
    assert ranked.fault is None, ranked.fault
    return pb.RankResponse.FromString(ranked.answer)


def refused(ranker: Ranker, request: Any, reason: Reason, method: Method = Method.RANK) -> RequestError:
    fault = call(ranker, request, method).fault
    assert fault is not None
    error = to_error(fault)
    assert isinstance(error, RequestError) and error.reason is reason
    return error


def descending(score: float) -> tuple[int, float]:
    return (1, 0.0) if math.isnan(score) else (0, -score)


@SLOW
@given(st.lists(VALUES, max_size=30), st.randoms(use_true_random=False))
def test_phased_ranking_is_two_sorts(ranker: Ranker, values: list[float], random: Any) -> None:
    """By the caller's base scores, then the best three by 0.125 + 0.75 bm25 - 0.5 · 2 (a price that is missing)."""
    ids = [f"{random.randrange(10**6):06d}-{i}" for i in range(len(values))]
    columns = [round(math.sin(i), 1) for i in range(len(values))]
    request = asked(columns, ids=ids, view=pb.VIEW_SCORES)
    request.candidates.base_scores.extend(values)
    answer = rank(ranker, request)
    base = sorted(range(len(ids)), key=lambda i: (descending(values[i]), ids[i]))
    scores = [0.125 + 0.75 * float(np.float32(x)) - 1.0 for x in columns]
    best = sorted(base[:3], key=lambda i: (descending(scores[i]), base.index(i)))
    expected = best + base[3:]
    assert list(answer.indexes) == expected
    assert answer.rescored_count == len(best)
    np.testing.assert_array_equal(answer.scores, [scores[i] if i in best else values[i] for i in expected])
    np.testing.assert_array_equal(answer.base_scores, [values[i] for i in expected])


def test_without_base_or_scores_the_given_order_stands(ranker: Ranker) -> None:
    answer = rank(ranker, asked([3, 1, 2], "plain", ids=["z", "a", "m"], view=pb.VIEW_SCORES))
    assert list(answer.indexes) == [0, 1, 2]
    assert np.isnan(answer.scores).all()


@SLOW
@given(st.lists(VALUES, min_size=1, max_size=25), st.integers(1, 7), st.integers(0, 3))
def test_pages_are_the_whole_list_cut(ranker: Ranker, values: list[float], page_size: int, view: int) -> None:
    whole = rank(ranker, asked(values, "whole", view=pb.VIEW_FEATURES))
    request = asked(values, "whole", view=view, page_size=page_size)
    seen = 0
    while True:
        page = rank(ranker, request)
        here = slice(seen, seen + page_size)
        assert list(page.indexes) == list(whole.indexes[here])
        assert list(page.ranks) == list(whole.ranks[here])
        assert (page.total_count, page.rescored_count) == (len(values), whole.rescored_count)
        if view >= pb.VIEW_SCORES:
            np.testing.assert_array_equal(page.scores, whole.scores[here])
        if view >= pb.VIEW_FEATURES:
            shown, wanted = ([list(f.values) for f in one.features] for one in (page, whole))
            np.testing.assert_array_equal(shown, [values[here] for values in wanted])
        seen += len(page.ids)
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert seen == len(values)


def token_of(ranker: Ranker, request: pb.RankRequest) -> str:
    request.page_size = 1
    token = rank(ranker, request).next_page_token
    assert token
    return token


def everything() -> pb.RankRequest:
    request = asked([1, 2, 3], "everything")
    request.query.text, request.query.language_code = "red", "en"
    request.user.user_id, request.user.visitor_id, request.user.session_id = "ann", "v", "s"
    request.user.segments.extend(["a", "b"])
    request.labels["team"] = "x"
    request.candidates.base_scores.extend([1, 2, 3])
    request.context_features["device"].category = "phone"
    request.context_features["likes"].set.values.extend(["p", "q"])
    request.context_features["hour"].number = 5
    request.context_features["note"].text = "note"
    request.context_features["taste"].vector.values.extend([1, 2, 3])
    request.as_of.seconds = 1_600_000_000
    return request


CHANGES: dict[str, Callable[[pb.RankRequest], Any]] = {
    "profile": lambda r: setattr(r, "profile", "whole") or r.context_features.clear(),
    "id": lambda r: r.candidates.ids.__setitem__(2, "other"),
    "order of ids": lambda r: r.candidates.ids.reverse(),
    "column": lambda r: r.candidates.columns[0].values.__setitem__(2, 4),
    "no column": lambda r: r.candidates.ClearField("columns"),
    "base scores": lambda r: r.candidates.base_scores.__setitem__(0, 9),
    "no base scores": lambda r: r.candidates.ClearField("base_scores"),
    "query": lambda r: setattr(r.query, "text", "blue"),
    "language": lambda r: setattr(r.query, "language_code", "de"),
    "surface": lambda r: setattr(r, "surface", 2),
    "user": lambda r: setattr(r.user, "user_id", "bob"),
    "visitor": lambda r: setattr(r.user, "visitor_id", "w"),
    "session": lambda r: setattr(r.user, "session_id", "t"),
    "segments": lambda r: r.user.segments.append("c"),
    "label": lambda r: r.labels.__setitem__("team", "y"),
    "another label": lambda r: r.labels.__setitem__("teams", "x"),
    "category": lambda r: setattr(r.context_features["device"], "category", "tv"),
    "number": lambda r: setattr(r.context_features["hour"], "number", 6),
    "text": lambda r: setattr(r.context_features["note"], "text", "other"),
    "set": lambda r: r.context_features["likes"].set.values.append("r"),
    "vector": lambda r: r.context_features["taste"].vector.values.__setitem__(0, 7),
    "no context": lambda r: r.context_features.pop("hour"),
    "as_of": lambda r: setattr(r.as_of, "nanos", 1),
    "no as_of": lambda r: r.ClearField("as_of"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_token_is_bound_to_its_request(ranker: Ranker, what: str) -> None:
    request = everything()
    request.page_token = token_of(ranker, request)
    assert len(rank(ranker, request).ids) == 1
    CHANGES[what](request)
    error = refused(ranker, request, Reason.BAD_PAGE_TOKEN)
    assert str(error) == (
        "page_token: expected a token of this request, got one of another profile, query, user, context or candidates"
    )


def test_what_may_change_between_pages(ranker: Ranker) -> None:
    request = everything()
    request.page_token = token_of(ranker, request)
    request.page_size, request.view, request.request_id, request.include_timings = 2, 3, "another", True
    values = list(request.context_features["likes"].set.values)
    del request.context_features["likes"].set.values[:]
    request.context_features["likes"].set.values.extend(reversed(values))
    assert len(rank(ranker, request).ids) == 2


def test_any_changed_or_cut_token_is_refused(ranker: Ranker) -> None:
    request = asked(range(40))
    token = token_of(ranker, request)
    for at in range(len(token)):
        for other in (token[:at], token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]):
            request.page_token = other
            if other:
                error = refused(ranker, request, Reason.BAD_PAGE_TOKEN)
                assert error.violations[0].field == "page_token"


@SLOW
@given(st.text(min_size=1, max_size=60))
def test_any_text_is_refused(ranker: Ranker, text: str) -> None:
    refused(ranker, asked([1, 2], page_token=text), Reason.BAD_PAGE_TOKEN)


async def test_a_token_outlives_writes(ranker: Ranker, store: SignalStore) -> None:
    request = asked([1, 3, 2], "whole")
    request.profile = "everything"
    request.context_features["device"].category = "toaster"
    request.page_token = token_of(ranker, request)
    store.categories.intern("toaster")
    assert list(rank(ranker, request).indexes) == [2]


def test_a_later_page_keeps_order_and_time(store: SignalStore) -> None:
    """The model changes between two pages: the scores are the new one's, of the first page's time; the order stays."""
    plans = world.plans(store)
    plan = plans["whole"]
    assert plan.model is not None
    request = asked([1, 4, 3, 2], "whole")
    first = rank(Ranker(plans, store, RequestLimits()), request)
    request.page_size = 2
    request.page_token = rank(Ranker(plans, store, RequestLimits()), request).next_page_token
    request.view = pb.VIEW_SCORES
    falling = Weighted({"bm25": -1.0, "price": 0.0})
    changed = replace(plan, model=replace(plan.model, scorer=falling), model_rows=np.array([1, 0], np.intp))
    second = rank(Ranker({"whole": changed}, store, RequestLimits()), request)
    assert list(second.indexes) == list(first.indexes[2:]) == [3, 0]
    assert list(second.scores) == [-2.0, -1.0]


def test_a_past_deadline_is_a_fault(ranker: Ranker) -> None:
    for method, message in ((Method.RANK, asked([1])), (Method.BATCH_RANK, pb.BatchRankRequest(
        common=pb.RankRequest(profile="plain"), lists=[pb.BatchRankRequest.List()]
    ))):  # fmt: skip
        ranked = call(ranker, message, method, deadline_ns=time.monotonic_ns() - 1)
        assert ranked.fault is not None and ranked.answer == b""
        assert isinstance(to_error(ranked.fault), DeadlinePassedError)
        assert call(ranker, message, method, deadline_ns=time.monotonic_ns() + 10**12).fault is None


def test_long_work_is_left_to_a_thread(ranker: Ranker) -> None:
    request = asked(range(100), view=pb.VIEW_FEATURES)
    request.query.text = "größe"
    data = request.SerializeToString()
    pending = ranker.rank(Method.RANK, data, request_id="made", now_s=NOW_S, inline_cost=0.0)
    assert isinstance(pending, Pending) and pending.cost > 100
    with ThreadPoolExecutor(1) as pool:
        ranked = pool.submit(pending.run).result()
    assert ranked.answer == call(ranker, request).answer
    with pytest.raises(ValueError, match="once"):
        pending.run()
    # A fault needs no thread.
    request.profile = "other"
    assert call(ranker, request, inline_cost=0.0).fault is not None


def test_calls_on_many_threads_do_not_disturb_each_other(ranker: Ranker) -> None:
    requests = [
        asked(np.sin(np.arange(n) * k), "everything", page_size=7, view=3) for n in (8, 50, 400) for k in (1, 2)
    ]
    for request in requests:
        request.query.text = "größe"
    expected = [call(ranker, request).answer for request in requests]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert list(pool.map(lambda request: call(ranker, request).answer, requests)) == expected


def test_fewer_candidates_are_rescored_and_it_is_said(ranker: Ranker) -> None:
    more = pb.RankResponse(degradation=pb.Degradation(level=1, reasons=["overload"])).SerializeToString()
    request = asked([5, 4, 3, 2, 1], "whole", page_size=2)
    full = call(ranker, request, max_rescored=5, degradation=more)
    assert not full.degraded and not pb.RankResponse.FromString(full.answer).HasField("degradation")
    fewer = call(ranker, request, max_rescored=1, degradation=more)
    answer = pb.RankResponse.FromString(fewer.answer)
    assert fewer.degraded and fewer.answer.endswith(more)
    assert (answer.rescored_count, answer.degradation.reasons) == (1, ["overload"])
    base = pb.RankResponse.FromString(call(ranker, request, max_rescored=0, degradation=more).answer)
    assert (base.rescored_count, list(base.indexes)) == (0, [0, 1])
    request.page_token = answer.next_page_token
    later = call(ranker, request, max_rescored=0, degradation=more)
    assert not later.degraded and later.rescored_count == 1


def test_stages_and_timings(ranker: Ranker) -> None:
    request = asked([1, 2, 3, 4], include_timings=True)
    ranked = call(ranker, request, with_stages=True)
    assert [(t.stage, t.candidate_count, t.list_index, t.missing_count) for t in ranked.stages] == [
        ("retrieve", 4, -1, 4), ("features", 4, -1, 4), ("base", 4, -1, 4), ("model", 3, -1, 4), ("page", 4, -1, 4),
    ]  # fmt: skip
    edges = [edge for t in ranked.stages for edge in (t.start_ns, t.end_ns)]
    assert edges == sorted(edges) and abs(edges[-1] - time.perf_counter_ns()) < 60e9
    timings = pb.RankResponse.FromString(ranked.answer).timings
    assert [t.stage for t in timings] == ["retrieve", "features", "base", "model", "page"]
    assert not call(ranker, request).stages
    batch = pb.BatchRankRequest(common=pb.RankRequest(profile="plain"))
    for _ in range(2):
        batch.lists.add(candidates=request.candidates)
    ranked = call(ranker, batch, Method.BATCH_RANK, with_stages=True)
    assert [t.list_index for t in ranked.stages] == [0] * 5 + [1] * 5
    assert not pb.BatchRankResponse.FromString(ranked.answer).results[0].response.timings


def test_a_plan_of_another_schema_is_refused(store: SignalStore) -> None:
    plan = replace(world.plans(store)["plain"], versions=Versions("a", "", "other"))
    with pytest.raises(ValueError, match="made for schema other"):
        Ranker({"plain": plan}, store, RequestLimits())


def test_every_fault_has_its_words() -> None:
    own = {"none", "malformed", "deadline", "no_memory", "internal"}
    assert set(FAULTS) - own == set(faults._TEXTS) | set(faults._UNKNOWN)
    assert set(faults._COUNTED) <= set(FIELDS)
    values = ("", 1, 2, 3, 4, 5, 6.0, "text", 'na"me', "id")
    for field in FIELDS:
        assert "{" not in RankFault("too_long", field, *values[1:]).path
    with pytest.raises(ValueError, match="no error is made"):
        to_error(RankFault("malformed", *values))


def features_of(ranker: Ranker, request: Any, now_s: float = NOW_S) -> dict[str, list[float]]:
    ranked = ranker.rank(Method.RANK, request.SerializeToString(), request_id="made", now_s=now_s)
    assert isinstance(ranked, Ranked) and ranked.fault is None
    answer = pb.RankResponse.FromString(ranked.answer)
    by_id = {column.name: list(column.values) for column in answer.features}
    by_id |= {ages.name: list(ages.ages_s) for ages in answer.signal_ages}
    place = [list(answer.ids).index(one) for one in request.candidates.ids]
    return {name: [values[i] for i in place] for name, values in by_id.items()}


async def test_rows_of_several_things_at_once() -> None:
    now = [NOW_S - 500]
    store = await open_embedded(world.SCHEMA, None, 1000, clock=lambda: now[0])
    none = np.empty(0, np.int64)

    async def put(entity: str, parts: Sequence[str], signal: str, values: Any) -> None:
        now[0] += 100
        await store.write(WriteBatch(entity, [composite_id(parts)], [ColumnValues(signal, np.arange(1), values, none)]))

    await put("item", ["a"], "brand", ["größe"])
    await put("item", ["b/4:c"], "brand", ["acme"])
    await put("query_item", ["red shoe", "b/4:c"], "ctr", np.array([0.5], np.float32))
    await put("user_brand", ["ann", "größe"], "ctr", np.array([0.25], np.float32))
    await put("session", ["s1"], "age", np.array([9], np.float32))
    ranker = Ranker(world.plans(store), store, RequestLimits())
    request = pb.RankRequest(profile="everything", view=pb.VIEW_FEATURES)
    request.candidates.ids.extend(["a", "b/4:c", "c"])
    request.query.text, request.user.visitor_id, request.user.session_id = "  RED shoe", "ann", "s1"
    found = features_of(ranker, request)
    nan = pytest.approx(math.nan, nan_ok=True)
    assert found["pair_ctr"] == [nan, 0.5, nan] and found["query_item.ctr"] == [nan, 200, nan]
    assert found["brand_ctr"] == [0.25, nan, nan] and found["user_brand.ctr"] == [100, nan, nan]
    assert found["session_age"] == [9, 9, 9] and found["session.age"] == [0, 0, 0]
    assert found["item.brand"] == [400, 300, nan]
    assert found["item.stock"] == [nan, nan, nan]  # a default is no value
    # A value that is to live for 1,000 s, as of the request's time and not of the call's.
    request.as_of.seconds = int(NOW_S) + 899
    assert features_of(ranker, request)["brand_ctr"][0] == 0.25
    request.as_of.seconds += 1
    later = features_of(ranker, request)
    assert later["brand_ctr"] == [nan] * 3 and later["user_brand.ctr"] == [nan] * 3
    request.as_of.seconds = int(NOW_S) - 600
    assert features_of(ranker, request)["user_brand.ctr"][0] == -500
    request.user.Clear()
    request.query.Clear()
    nobody = features_of(ranker, request)
    assert all(nobody[name] == [nan] * 3 for name in ("pair_ctr", "brand_ctr", "session_age"))
    await store.close()


async def test_what_changes_with_time_is_read_as_of_the_requests_time() -> None:
    """A decaying counter, a window of 1,000 s in buckets of 100, a ratio of windows with the prior 0.1 of weight 10."""
    start = 1_700_000_000
    store = await open_embedded(world.SCHEMA, None, 1000, clock=lambda: float(start))
    none, one = np.empty(0, np.int64), np.arange(1)
    buckets = np.array([start // 100 - 3, start // 100], np.int32)
    clicks = WindowValues(buckets, np.array([2, 4], np.float32), np.array([2]))
    shown = WindowValues(buckets, np.array([20, 10], np.float32), np.array([2]))
    heat = ColumnValues("heat", one, np.array([8.0]), none)
    windows = [ColumnValues("clicks", one, clicks, none), ColumnValues("shown", one, shown, none)]
    await store.write(WriteBatch("item", ["a"], [heat, *windows]))
    ranker = Ranker(world.plans(store), store, RequestLimits())
    request = pb.RankRequest(profile="everything", view=pb.VIEW_FEATURES, candidates=pb.Candidates(ids=["a"]))
    expected = {
        0: (8.0, 6.0, 7 / 40),
        500: (4.0, 6.0, 7 / 40),
        650: (8.0 / 2**1.3, 6.0, 7 / 40),
        700: (8.0 / 2**1.4, 4.0, 5 / 20),  # the older bucket is ten buckets back
        1000: (2.0, 0.0, 0.1),
        3000: (math.nan, 0.0, 0.1),  # the counter lives for 3,000 s
    }
    for later_s, values in expected.items():
        request.as_of.seconds = start + later_s
        found = features_of(ranker, request, now_s=start - 10_000.0)
        assert [found[name][0] for name in ("heat", "clicks", "rate")] == pytest.approx(values, nan_ok=True)
        assert found["item.clicks"] == found["item.rate"] == [later_s]
    await store.close()
