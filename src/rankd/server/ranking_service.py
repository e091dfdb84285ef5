"""RankingService: the Python around the one compiled call. Admission, deadlines, errors, spans.

Between a call's bytes and its answer's stands Ranker.rank; everything else here is counted in microseconds
(load_tests/bench_handler.py). A call that is answered whole and is not traced makes no object of its own.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from rankd.errors import OverloadedError
from rankd.limits import MAX_REQUEST_ID_BYTES
from rankd.ranking import faults
from rankd.ranking.ranker import Method, Pending, Ranked, Ranker, StageTime
from rankd.server import ranking_spans
from rankd.server.admission import DEADLINE, DECISIONS, OVERLOAD, RUNG_BITS, Refusal, Rung
from rankd.server.gate import INLINE_NS, Gate, Priority
from rankd.server.health import RANKING
from rankd.server.ranking_spans import FETCH
from rankd.server.rpc import Call, Dispatcher, Handler, malformed, was_cancelled
from rankd.signals.store import Fetched
from rankd.telemetry import names
from rankd.telemetry.tracing import RootSpan
from rankd.v1 import ranking_pb2 as pb

Fetch = Callable[[Mapping[str, Sequence[str]], float], Awaitable[Fetched]]

_NO_DEADLINE_S: Final = 10.0
_FETCH_SHARE: Final = 0.8
"""Of the time left: then it is ranked with what is there."""

REQUESTS: Final[dict[Method, tuple[str, type[Message]]]] = {
    Method.RANK: ("Rank", pb.RankRequest),
    Method.BATCH_RANK: ("BatchRank", pb.BatchRankRequest),
    Method.SCORE: ("Score", pb.ScoreRequest),
}


_LEVELS: Final[dict[int, str]] = {
    Rung.FEWER: "DEGRADATION_LEVEL_FEWER_CANDIDATES",
    Rung.BASE: "DEGRADATION_LEVEL_BASE_ONLY",
}


def _degradation(decision: int) -> bytes:
    """RankResponse.degradation of a decision, as bytes that can be put at the end of any response."""
    rung = decision & RUNG_BITS
    if rung not in _LEVELS:
        return b""
    told = pb.Degradation(level=pb.DegradationLevel.Value(_LEVELS[rung]))
    told.reasons.extend(name for bit, name in ((OVERLOAD, "overload"), (DEADLINE, "deadline")) if decision & bit)
    if rung == Rung.BASE:
        told.stages_skipped.append("model")
    return pb.RankResponse(degradation=told).SerializeToString()


_UNAVAILABLE: Final = pb.RankResponse(
    degradation=pb.Degradation(
        level=pb.DegradationLevel.DEGRADATION_LEVEL_STALE_SIGNALS, reasons=["signals_unavailable"]
    )
).SerializeToString()
"""Rows could not be fetched for a call; it is answered with what was there."""

_DEGRADATIONS: Final = [_degradation(decision) for decision in range(DECISIONS)]


class RankingService:
    """The methods of rankd.v1.RankingService. A call takes the ranker once, when it begins."""

    def __init__(self, ranker: Ranker, dispatcher: Dispatcher, gate: Gate, fetch: Fetch | None = None) -> None:
        """`fetch`: SignalStore.fetch; None: nothing is to be fetched."""
        self._ranker = ranker
        self._fetch = fetch
        self._dispatcher = dispatcher
        self._gate = gate

    def replace(self, ranker: Ranker) -> None:
        """Calls that begin from now on are answered by this one."""
        self._ranker = ranker

    def handlers(self) -> dict[str, dict[Priority, Handler]]:
        """By the names of the methods, for rpc.ServiceHandlers."""
        return {
            name: {priority: self._handler(method, priority is Priority.LIVE) for priority in Priority}
            for method, (name, _) in REQUESTS.items()
        }

    def _handler(self, method: Method, live: bool) -> Handler:
        name = f"{RANKING}/{REQUESTS[method][0]}"
        ladder = method is not Method.SCORE
        dispatcher, gate, admission = self._dispatcher, self._gate, self._gate.admission

        # A plain coroutine function: grpc.aio would put an object with an async __call__ on a thread.
        async def handle(data: bytes, context: Any) -> bytes:
            start_ns = time.perf_counter_ns()  # CLOCK_MONOTONIC, as the kernel's deadlines
            request_id = f"{random.getrandbits(128):032x}"
            span: RootSpan | None = None
            dispatcher.call_count += 1
            dispatcher.in_flight += 1
            try:
                if dispatcher.tracer is not None:
                    span = dispatcher.tracer.begin(context.invocation_metadata())
                left_s = context.time_remaining()
                left_ns = dispatcher.default_deadline_ns if left_s is None else int(left_s * 1e9)
                known = admission.cost_class(method, len(data))
                decision = gate.admit(known, live, ladder, left_ns, start_ns)
                if decision < 0:
                    call = Call(name, start_ns, None, None, span, request_id)
                    return dispatcher.refuse(call, context, gate.refusal(Refusal(decision)))
                rung = decision & RUNG_BITS
                done = self._ranker.rank(
                    method,
                    data,
                    request_id=request_id,
                    now_s=time.time(),
                    deadline_ns=None if left_ns is None else start_ns + left_ns,
                    inline_cost=INLINE_NS,
                    max_rescored=None if not rung else known.fewer() if rung == Rung.FEWER else 0,
                    degradation=_DEGRADATIONS[decision],
                    with_stages=span is not None,
                )
                waited_ns = 0
                if isinstance(done, Pending):
                    if done.wanted:
                        done, waited_ns = await self._run_fetched(done, known.service_ns[rung], live, left_ns, start_ns)
                    else:
                        done, waited_ns = await self._run_long(done.run, done.cost, known.service_ns[rung], live)
                if done.fault is None:
                    known.note(rung, time.perf_counter_ns() - start_ns - waited_ns, done.rescored_count)
                    if span is None and not done.list_faults:
                        return done.answer
                call = Call(name, start_ns, None, None, span, done.request_id)
                return self._end(method, call, context, data, done)
            except asyncio.CancelledError as error:
                call = Call(name, start_ns, None, None, span, request_id)
                if was_cancelled():
                    dispatcher.end(call, "CANCELLED")
                    raise
                call.request_id = _sent_id(method, data) or request_id
                return dispatcher.fail(call, context, error)
            except Exception as error:
                if not isinstance(error, OverloadedError):
                    request_id = _sent_id(method, data) or request_id
                return dispatcher.fail(Call(name, start_ns, None, None, span, request_id), context, error)
            finally:
                dispatcher.in_flight -= 1

        return handle

    async def _run_fetched(
        self, pending: Pending, service_ns: float, live: bool, left_ns: int | None, start_ns: int
    ) -> tuple[Ranked, int]:
        """The rest of a call for which rows are fetched first, and the ns it waited for them and for a thread."""
        assert self._fetch is not None
        asked_ns = time.perf_counter_ns()
        left_s = _NO_DEADLINE_S if left_ns is None else max(0.0, (start_ns + left_ns - asked_ns) / 1e9 * _FETCH_SHARE)
        fetched = await self._fetch(pending.wanted, left_s)
        fetched_ns = time.perf_counter_ns()
        run = pending.run if fetched.is_complete else partial(pending.run, _UNAVAILABLE)
        waited_ns = 0
        if pending.cost <= INLINE_NS:
            done = run()
        else:
            done, waited_ns = await self._run_long(run, pending.cost, service_ns, live)
        if done.stages:
            count = sum(map(len, pending.wanted.values()))
            stage = StageTime(FETCH, asked_ns, fetched_ns, count, -1, 0)
            done = done._replace(stages=[stage, *done.stages])
        del fetched  # until here it has held the rows
        return done, waited_ns + fetched_ns - asked_ns

    async def _run_long(
        self, run: Callable[[], Ranked], cost: float, service_ns: float, live: bool
    ) -> tuple[Ranked, int]:
        """The rest of a long call: on a thread (the kernel releases the GIL) or here, and the ns it waited."""
        service_ns = service_ns or cost
        here = self._gate.runs_here(service_ns, live)
        if here is None:
            retry_after_s = self._gate.admission.retry_after_ms() / 1e3
            raise OverloadedError("all threads are taken, and so is the room before them", retry_after_s)
        if here:
            return run(), 0
        return await self._gate.pool.run(run, service_ns)

    def _end(self, method: Method, call: Call, context: Any, data: bytes, done: Ranked) -> bytes:
        """What is rare: a call that is traced, or has faults."""
        if call.span is not None:
            ranking_spans.note(call, method, REQUESTS[method][1], data, done)
        if done.fault is not None:
            call.request_id = done.fault.request_id or call.request_id
            return self._dispatcher.fail(call, context, self._error(done.fault, method, data))
        answer = self._splice(method, call, done, data) if done.list_faults else done.answer
        self._dispatcher.end(call, "OK")
        return answer

    def _error(self, fault: faults.RankFault, method: Method, data: bytes) -> Exception:
        if fault.kind == faults.MALFORMED:
            return malformed(data, REQUESTS[method][1])
        return faults.to_error(fault)

    def _splice(self, method: Method, call: Call, done: Ranked, data: bytes) -> bytes:
        """The answer to a batch some of whose lists have failed: their errors put where they belong."""
        pieces, last = [], 0
        for _, offset, fault in done.list_faults:
            status = self._dispatcher.explain(call, self._error(fault, method, data), fault.request_id)
            failed = pb.BatchRankResponse(results=[pb.BatchRankResponse.Result(error=status)])
            pieces += [done.answer[last:offset], failed.SerializeToString()]
            last = offset
        if call.span is not None:
            # The call itself has not failed.
            call.attributes.pop(names.ERROR_REASON, None)
            call.attributes[names.LISTS_FAILED] = len(done.list_faults)
        return b"".join([*pieces, done.answer[last:]])


def _sent_id(method: Method, data: bytes) -> str:
    """The caller's id of a call that failed before it was told: only then is the request parsed for it."""
    try:
        message: Any = REQUESTS[method][1].FromString(data)
    except DecodeError:
        return ""
    sent: str = (message.common if method is Method.BATCH_RANK else message).request_id
    return sent if len(sent.encode()) <= MAX_REQUEST_ID_BYTES else ""
