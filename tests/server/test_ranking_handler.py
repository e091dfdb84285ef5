"""The Python around the compiled call, with a ranker that does what a test wants."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from rankd.ranking import ranker as ranker_module
from rankd.ranking.faults import DEADLINE, MALFORMED, RankFault
from rankd.ranking.ranker import Method, Ranked
from rankd.server.admission import MOST_PRESSURE
from rankd.server.gate import INLINE_NS, RANKING_METHODS, Gate, Priority
from rankd.server.ranking_service import RankingService
from rankd.server.rpc import Dispatcher
from rankd.v1 import ranking_pb2 as pb
from rankd.workspace import AdmissionSettings

MS = 1_000_000
SECRET = "hunter2"


class Context:
    """As much of a call's context as the handler uses."""

    def __init__(self, left_s: float | None = 1.0) -> None:
        self.left_s = left_s
        self.code: grpc.StatusCode = grpc.StatusCode.OK
        self.text = ""
        self.trailers: tuple[tuple[str, str | bytes], ...] = ()

    def time_remaining(self) -> float | None:
        return self.left_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, text: str) -> None:
        self.text = text

    def set_trailing_metadata(self, trailers: tuple[tuple[str, str | bytes], ...]) -> None:
        self.trailers = trailers

    @property
    def reason(self) -> str:
        """The ErrorInfo's."""
        status = status_pb2.Status.FromString(dict(self.trailers)["grpc-status-details-bin"])  # type: ignore[arg-type]
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        return info.reason


def ranked(answer: bytes = b"answer", **more: Any) -> Ranked:
    values: dict[str, Any] = dict.fromkeys(Ranked._fields, 0)
    values |= {"answer": answer, "fault": None, "list_faults": (), "plan": None, "request_id": "own", "stages": ()}
    return Ranked(**values | {"degraded": False} | more)


def fault(kind: str, **more: Any) -> RankFault:
    values: dict[str, Any] = {"field": "", "index": 0, "at": 0, "limit": 0, "count": 0, "other": 0, "number": 0.0}
    return RankFault(kind, **values | {"text": "", "name": "", "request_id": "own"} | more)


class Pending(ranker_module.Pending):
    """A long call whose work is a function."""

    def __init__(self, work: Callable[[], Ranked]) -> None:
        self.cost = 5.0 * MS
        self.wanted = {}
        self.work = work

    def run(self, degradation: bytes = b"") -> Ranked:
        return self.work()


@dataclass
class World:
    """A service over `act`, which stands for Ranker.rank."""

    act: Callable[..., Any]
    settings: dict[str, Any] = field(default_factory=dict)
    threads: int = 1

    def __post_init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.dispatcher = Dispatcher(None, 5_000.0)
        self.gate = Gate(AdmissionSettings.model_validate(self.settings), RANKING_METHODS, self.threads)
        self.service = RankingService(self, self.dispatcher, self.gate)  # type: ignore[arg-type]
        self.handlers = self.service.handlers()

    def rank(self, method: Method, data: bytes, **options: Any) -> Any:
        self.asked.append(options)
        return self.act()

    def hold_pressure(self, pressure: float) -> None:
        admission: Any = self.gate.admission
        admission.pressure = pressure
        admission.due = lambda now_ns: False

    async def call(
        self, left_s: float | None = 1.0, data: bytes = b"", name: str = "Rank", priority: Priority = Priority.LIVE
    ) -> tuple[bytes, Context]:
        context = Context(left_s)
        return await self.handlers[name][priority](data, context), context


async def until_left(world: World, seconds: float = 10.0) -> None:
    """No thread works for nobody any more."""
    limit = time.monotonic() + seconds
    while world.gate.pool.abandoned:
        assert time.monotonic() < limit
        await asyncio.sleep(0.002)


async def test_a_call_gets_the_kernels_bytes() -> None:
    world = World(ranked)
    answer, context = await world.call(0.25)
    assert (answer, context.code, context.trailers) == (b"answer", grpc.StatusCode.OK, ())
    (asked,) = world.asked
    assert 0 < asked["deadline_ns"] - time.monotonic_ns() <= 250 * MS
    assert abs(asked["now_s"] - time.time()) < 5
    assert (asked["inline_cost"], asked["max_rescored"], asked["degradation"]) == (INLINE_NS, None, b"")
    assert not asked["with_stages"]
    assert len(asked["request_id"]) == 32 and int(asked["request_id"], 16)
    assert (world.dispatcher.in_flight, world.dispatcher.call_count) == (0, 1)


async def test_calls_without_a_deadline_get_the_servers() -> None:
    world = World(ranked)
    await world.call(None)
    assert 4_000 * MS < world.asked[0]["deadline_ns"] - time.monotonic_ns() <= 5_000 * MS
    world.dispatcher.set_default_deadline(None)
    await world.call(None)
    assert world.asked[1]["deadline_ns"] is None


async def test_what_is_late_is_not_begun() -> None:
    world = World(ranked)
    answer, context = await world.call(0.0)
    assert (answer, context.code, context.reason) == (b"", grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert world.asked == []


@pytest.mark.parametrize(
    ("pressure", "left_s", "level", "reasons", "most"),
    [
        (0.0, 1.0, None, [], None),
        (2.0, 1.0, "DEGRADATION_LEVEL_FEWER_CANDIDATES", ["overload"], 25),
        (3.0, 1.0, "DEGRADATION_LEVEL_BASE_ONLY", ["overload"], 0),
        (0.0, 0.03, "DEGRADATION_LEVEL_FEWER_CANDIDATES", ["deadline"], 25),
        (0.0, 0.008, "DEGRADATION_LEVEL_BASE_ONLY", ["deadline"], 0),
        (2.0, 0.008, "DEGRADATION_LEVEL_BASE_ONLY", ["overload", "deadline"], 0),
    ],
)
async def test_the_ladder(
    pressure: float, left_s: float, level: str | None, reasons: list[str], most: int | None
) -> None:
    world = World(ranked)
    world.hold_pressure(pressure)
    known = world.gate.admission.cost_class(Method.RANK, 0)
    for rung, ms in enumerate((40, 10, 2)):
        known.note(rung, ms * MS, 100)
    await world.call(left_s)
    (asked,) = world.asked
    assert asked["max_rescored"] == most
    told = pb.RankResponse.FromString(asked["degradation"])
    assert told.HasField("degradation") == (level is not None)
    if level:
        assert pb.DegradationLevel.Name(told.degradation.level) == level
        assert list(told.degradation.reasons) == reasons
        assert list(told.degradation.stages_skipped) == (["model"] if most == 0 else [])


async def test_a_score_has_no_ladder() -> None:
    world = World(ranked)
    world.hold_pressure(MOST_PRESSURE)
    await world.call(name="Score")
    assert (world.asked[0]["max_rescored"], world.asked[0]["degradation"]) == (None, b"")


async def test_batch_calls_are_refused_before_anything_is_read() -> None:
    world = World(ranked)
    world.hold_pressure(1.0)
    answer, context = await world.call(priority=Priority.BATCH)
    assert (answer, context.code, context.reason) == (b"", grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert dict(context.trailers)["grpc-retry-pushback-ms"] == "100"
    assert (world.asked, world.dispatcher.in_flight) == ([], 0)


@pytest.mark.parametrize("error", [RuntimeError(SECRET), MemoryError(SECRET), asyncio.CancelledError(SECRET)])
async def test_nothing_of_the_inside_leaks(error: BaseException) -> None:
    def act() -> Ranked:
        raise error

    for work in (act, lambda: Pending(act)):
        world = World(work)
        answer, context = await world.call()
        assert (answer, context.code, context.reason) == (b"", grpc.StatusCode.INTERNAL, "INTERNAL")
        assert SECRET not in repr((context.text, context.trailers))
        assert type(error).__name__ not in repr((context.text, context.trailers))
        assert world.dispatcher.in_flight == 0
        assert world.gate.admission.at_threads == 0


async def test_faults_become_their_errors() -> None:
    world = World(lambda: ranked(b"", fault=fault(DEADLINE)))
    assert (await world.call())[1].reason == "DEADLINE_EXCEEDED"
    world = World(lambda: ranked(b"", fault=fault(MALFORMED)))
    context = (await world.call(data=b"\x0a\xff"))[1]
    assert (context.code, context.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    assert "at byte 1" in context.text
    known = world.gate.admission.cost_class(Method.RANK, 2)
    assert known.service_ns == [0.0, 0.0, 0.0], "what fails tells nothing of what answers take"


async def test_the_errors_of_lists_are_put_where_they_belong() -> None:
    good = [pb.BatchRankResponse.Result(response=pb.RankResponse(request_id=f"r{i}")) for i in (1, 3)]
    pieces = [pb.BatchRankResponse(results=[result]).SerializeToString() for result in good]
    bad = [
        fault("empty_id", field="candidates.ids[{index}]", prefix=f"lists[{i}].", request_id=f"r{i}") for i in (0, 2, 4)
    ]
    faults = list(zip((0, 2, 4), (0, len(pieces[0]), len(b"".join(pieces))), bad, strict=True))
    world = World(lambda: ranked(b"".join(pieces), list_faults=faults))
    answer, context = await world.call(name="BatchRank")
    assert context.code is grpc.StatusCode.OK
    results = pb.BatchRankResponse.FromString(answer).results
    assert [result.WhichOneof("result") for result in results] == ["error", "response", "error", "response", "error"]
    for i, result in enumerate(results):
        info = error_details_pb2.ErrorInfo()
        if i % 2:
            assert result.response.request_id == f"r{i}"
        else:
            assert f"lists[{i}].candidates.ids[0]" in result.error.message
            assert result.error.details[0].Unpack(info)
            assert info.metadata["request_id"] == f"r{i}"


async def test_long_calls_leave_the_loop() -> None:
    threads = set()

    def work() -> Ranked:
        threads.add(threading.current_thread().name)
        return ranked()

    world = World(lambda: Pending(work))
    assert (await world.call())[0] == b"answer"
    assert len(threads) == 1 and threads.pop().startswith("rankd-rank")
    assert (world.gate.admission.at_threads, world.gate.pool.abandoned) == (0, 0)


async def test_where_there_is_no_room_live_calls_run_here_and_batch_calls_are_refused() -> None:
    let_go, here = threading.Event(), []

    def wait() -> Ranked:
        let_go.wait(10)
        return ranked()

    def work() -> Ranked:
        here.append(threading.current_thread() is threading.main_thread())
        return ranked()

    world = World(lambda: Pending(wait), {"max_concurrency": 2})
    waiting = [asyncio.ensure_future(world.call()) for _ in range(2)]
    await asyncio.sleep(0.01)
    world.act = lambda: Pending(work)
    assert (await world.call(priority=Priority.BATCH))[1].reason == "OVERLOADED"
    assert (await world.call())[0] == b"answer"
    assert here == [True]
    known = world.gate.admission.cost_class(Method.RANK, 0)
    known.note(0, 100 * MS, 0)  # too long to hold the loop
    assert (await world.call())[1].reason == "OVERLOADED"
    let_go.set()
    assert [answer for answer, _ in await asyncio.gather(*waiting)] == [b"answer"] * 2


async def test_a_cancelled_call_is_cancelled_and_its_thread_is_counted_until_it_ends() -> None:
    let_go, begun = threading.Event(), threading.Event()

    def work() -> Ranked:
        begun.set()
        let_go.wait(10)
        return ranked()

    world = World(lambda: Pending(work), threads=1)
    running, queued = (asyncio.ensure_future(world.call()) for _ in range(2))
    await asyncio.to_thread(begun.wait, 10)
    for task in (running, queued):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (world.dispatcher.in_flight, world.gate.pool.abandoned, world.gate.admission.at_threads) == (0, 1, 1)
    let_go.set()
    await until_left(world)
    assert (world.gate.admission.at_threads, world.gate.admission.backlog_ns) == (0, 0.0)


async def test_thousands_of_cancellations_leave_nothing() -> None:
    randoms = random.Random(1)

    def work() -> Ranked:
        time.sleep(randoms.random() * 0.001)
        return ranked()

    world = World(lambda: Pending(work), {"max_concurrency": 1_000}, threads=2)
    threads = objects = 0
    for block in range(4):
        for _ in range(50):
            tasks = [asyncio.ensure_future(world.call(None)) for _ in range(20)]
            await asyncio.sleep(randoms.random() * 0.01)
            for task in randoms.sample(tasks, 10):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await until_left(world)
        gc.collect()
        world.asked.clear()
        if block:
            assert threading.active_count() <= threads
            assert len(gc.get_objects()) < objects + 500
        threads, objects = threading.active_count(), len(gc.get_objects())
    assert (world.dispatcher.in_flight, world.gate.admission.at_threads) == (0, 0)
    world.gate.close()
