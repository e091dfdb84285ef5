"""RankingService: Rank, BatchRank, Score. Decode, retrieve, rank, encode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from rankd.errors import OverloadedError, Reason, RequestError
from rankd.limits import MAX_LABELS, RequestLimits
from rankd.ranking import stages
from rankd.ranking.pages import Cursor
from rankd.ranking.plan import Plan
from rankd.ranking.rank import RankedPage, Shared, StageTime, open_page, rank_list, score_list, share
from rankd.ranking.request import CandidateList, RequestContext, Retrieved
from rankd.server import decode, encode
from rankd.server.gate import Gate
from rankd.server.rpc import Call, Dispatcher
from rankd.signals.store import SignalRows, SignalStore
from rankd.telemetry import names
from rankd.telemetry.tracing import AttributeValue, Stage
from rankd.types.text import stored_ids
from rankd.v1 import ranking_pb2 as pb

INLINE_COST: Final = 100_000.0
"""Up to this Plan.cost (tree visits and column values) a list is ranked on the event loop. Above it,
a thread: the hop costs about 0.1 ms, and a longer stay would keep other calls from being read."""

ResultT = TypeVar("ResultT")


class RankingService:
    """The methods of rankd.v1.RankingService over plans and a store. A call takes its plan once, when it begins."""

    def __init__(
        self,
        plans: Mapping[str, Plan],
        store: SignalStore,
        limits: RequestLimits,
        dispatcher: Dispatcher,
        gate: Gate,
    ) -> None:
        self._plans = plans
        self._store = store
        self._limits = limits
        self._dispatcher = dispatcher
        self._gate = gate

    def replace(self, plans: Mapping[str, Plan]) -> None:
        """Calls that begin from now on are answered by these plans."""
        self._plans = plans

    async def rank(self, request: pb.RankRequest, call: Call) -> pb.RankResponse:
        """Rank."""
        decode.check_request_id(request.request_id)
        call.name_request(request.request_id)
        plan = decode.find_plan(self._plans, request.profile)
        if call.span is not None:
            _note_request(call, plan, request, len(request.candidates.ids))
        context = decode.decode_request(request, plan, self._limits)
        candidates = decode.decode_list(
            request.candidates,
            plan.profile,
            self._limits,
            page_size=decode.decode_page_size(request, self._limits),
            page_token=request.page_token,
            view=decode.decode_view(request.view),
        )
        page, times = await self._rank(call, plan, context, candidates)
        if call.span is not None:
            call.attributes[names.MISSING] = len(page.missing_indexes)
            call.attributes[names.RESCORED] = page.rescored_count
            call.attributes[names.RETURNED] = len(page.indexes)
            _note_stages(call, plan, times, len(page.missing_indexes))
        timings = times if request.include_timings else ()
        return encode.encode_page(plan, candidates.ids, page, call.request_id, timings)

    async def score(self, request: pb.ScoreRequest, call: Call) -> pb.ScoreResponse:
        """Score."""
        decode.check_request_id(request.request_id)
        call.name_request(request.request_id)
        plan = decode.find_plan(self._plans, request.profile)
        if call.span is not None:
            _note_request(call, plan, request, len(request.candidates.ids))
        context = decode.decode_request(request, plan, self._limits)
        candidates = decode.decode_list(request.candidates, plan.profile, self._limits)
        retrieved, retrieve_time = await self._retrieve(plan, context, candidates)
        call.check_deadline()
        work = partial(score_list, plan, context, candidates, retrieved, request.raw, time.perf_counter_ns)
        scored = await self._compute(call, plan, len(candidates.ids), work)
        if call.span is not None:
            call.attributes[names.MISSING] = len(scored.missing_indexes)
            _note_stages(call, plan, [retrieve_time, *scored.times], len(scored.missing_indexes))
        return encode.encode_scores(plan, candidates.ids, scored, call.request_id, request.include_features)

    async def batch_rank(self, request: pb.BatchRankRequest, call: Call) -> pb.BatchRankResponse:
        """BatchRank: what the lists share is decoded, read and bound once."""
        common = request.common
        decode.check_request_id(common.request_id, "common.request_id")
        call.name_request(common.request_id)
        plan = decode.find_plan(self._plans, common.profile, "common.profile")
        total = self._check_batch(request)
        if call.span is not None:
            _note_request(call, plan, common, total)
            call.attributes[names.LISTS] = len(request.lists)
        context = decode.decode_request(common, plan, self._limits, "common.")
        decode.decode_page_size(common, self._limits, "common.")
        decode.decode_view(common.view, "common.view")
        shared = share(plan, context)
        shared_rows = await self._read_request_entities(plan, context)
        response = pb.BatchRankResponse()
        failed = 0
        for i in range(len(request.lists)):
            call.check_deadline()
            result = response.results.add()
            one = request.lists[i]
            # The call's own id stands in for a list's, so that the two are found together.
            request_id = one.request_id or f"{call.request_id[:120]}-{i}"
            try:
                result.response.CopyFrom(
                    await self._rank_one(call, plan, context, shared, shared_rows, request, i, request_id)
                )
            except Exception as error:
                failed += 1
                result.error.CopyFrom(self._dispatcher.explain(call, error, request_id))
            await asyncio.sleep(0)  # other calls get their turn between lists
        if call.span is not None:
            call.attributes[names.LISTS_FAILED] = failed
        return response

    def _check_batch(self, request: pb.BatchRankRequest) -> int:
        """Bounds of the batch as a whole; the number of its candidates."""
        limits, common = self._limits, request.common
        if common.HasField("candidates"):
            raise RequestError.one(Reason.INVALID_FIELD, "common.candidates", "nothing: lists have candidates", "some")
        if common.page_token:
            raise RequestError.one(Reason.INVALID_FIELD, "common.page_token", "nothing: lists have tokens", "one")
        count = len(request.lists)
        if not 1 <= count <= limits.max_batch_lists:
            reason = Reason.LIMIT_EXCEEDED if count else Reason.INVALID_FIELD
            raise RequestError.one(reason, "lists", f"1 to {limits.max_batch_lists} lists", f"{count}")
        total = sum(len(one.candidates.ids) for one in request.lists)
        if total > limits.max_batch_candidates:
            raise RequestError.one(
                Reason.LIMIT_EXCEEDED,
                "lists",
                f"at most {limits.max_batch_candidates} candidates in all lists together",
                f"{total}",
            )
        return total

    async def _rank_one(
        self,
        call: Call,
        plan: Plan,
        context: RequestContext,
        shared: Shared,
        shared_rows: Mapping[str, SignalRows],
        request: pb.BatchRankRequest,
        i: int,
        request_id: str,
    ) -> pb.RankResponse:
        one, prefix = request.lists[i], f"lists[{i}]."
        decode.check_request_id(one.request_id, f"{prefix}request_id")
        page_size = decode.decode_page_size(one, self._limits, prefix)
        candidates = decode.decode_list(
            one.candidates,
            plan.profile,
            self._limits,
            prefix,
            page_size=decode.decode_page_size(request.common, self._limits) if page_size is None else page_size,
            page_token=one.page_token,
            view=decode.decode_view(request.common.view),
        )
        page, times = await self._rank(call, plan, context, candidates, shared, shared_rows)
        if call.span is not None:
            _note_stages(call, plan, times, len(page.missing_indexes), {names.LIST_INDEX: i})
        timings = times if request.common.include_timings else ()
        return encode.encode_page(plan, candidates.ids, page, request_id, timings)

    async def _rank(
        self,
        call: Call,
        plan: Plan,
        context: RequestContext,
        candidates: CandidateList,
        shared: Shared | None = None,
        shared_rows: Mapping[str, SignalRows] | None = None,
    ) -> tuple[RankedPage, list[StageTime]]:
        """One list through all stages; with what a batch shares, if it does."""
        cursor: Cursor | None = open_page(plan, context, candidates)
        if cursor is not None:
            # A later page is computed as of the first page's time, so nothing is shared with other lists.
            context = replace(context, as_of_s=cursor.as_of_s)
            shared = shared_rows = None
        retrieved, retrieve_time = await self._retrieve(plan, context, candidates, shared_rows)
        call.check_deadline()
        work = partial(rank_list, plan, context, candidates, retrieved, cursor, time.perf_counter_ns, shared)
        page = await self._compute(call, plan, len(candidates.ids), work)
        return page, [retrieve_time, *page.times]

    async def _retrieve(
        self,
        plan: Plan,
        context: RequestContext,
        candidates: CandidateList,
        shared_rows: Mapping[str, SignalRows] | None = None,
    ) -> tuple[Retrieved, StageTime]:
        """The stage `retrieve`: the only one that waits for anything."""
        start_ns = time.perf_counter_ns()
        if shared_rows is None:
            shared_rows = await self._read_request_entities(plan, context)
        read = plan.reads[0]
        ids = stored_ids(read.entity, candidates.ids)
        rows = await self._store.read(read.entity, ids, read.signals, context.as_of_s)
        retrieved = Retrieved({**shared_rows, read.entity: rows})
        end_ns = time.perf_counter_ns()
        return retrieved, StageTime(stages.RETRIEVE, start_ns, end_ns, len(candidates.ids))

    async def _read_request_entities(self, plan: Plan, context: RequestContext) -> dict[str, SignalRows]:
        """What is known of the user and the query."""
        return {
            read.entity: await self._store.read(
                read.entity, stages.request_ids(read.entity, context), read.signals, context.as_of_s
            )
            for read in plan.reads[1:]
        }

    async def _compute(self, call: Call, plan: Plan, length: int, work: Callable[[], ResultT]) -> ResultT:
        """Runs pure work here or, if it is long, on a thread (the kernels release the GIL)."""
        if plan.cost(length) <= INLINE_COST:
            return work()
        service_ns = call.known.service_ns[0] if call.known is not None else 0.0
        here = self._gate.runs_here(service_ns, call.live)
        if here is None:
            retry_after_ms = self._gate.admission.retry_after_ms()
            raise OverloadedError("all threads are taken, and so is the room before them", retry_after_ms / 1e3)
        if here:
            return work()
        result, waited_ns = await self._gate.pool.run(work, service_ns)
        call.waited_ns += waited_ns
        return result


def _note_request(call: Call, plan: Plan, request: pb.RankRequest | pb.ScoreRequest, candidates: int) -> None:
    """The root span's attributes. Only for sampled calls; before checks, so that refused calls have them, too."""
    attributes: dict[str, AttributeValue] = {
        names.PROFILE: plan.profile.name,
        names.PROFILE_VERSION: plan.versions.profile,
        names.SCHEMA_VERSION: plan.versions.schema,
        names.CANDIDATES: candidates,
    }
    if plan.versions.model:
        attributes[names.MODEL_VERSION] = plan.versions.model
    if 0 < request.surface < len(decode.SURFACES):
        attributes[names.SURFACE] = decode.SURFACES[request.surface]
    if request.user.session_id and len(request.user.session_id) <= decode.MAX_TRACED_CHARS:
        attributes[names.SESSION_ID] = request.user.session_id
    if len(request.labels) <= MAX_LABELS:
        for key, value in request.labels.items():
            attributes[names.LABEL_PREFIX + key[: decode.MAX_TRACED_CHARS]] = value[: decode.MAX_TRACED_CHARS]
    call.attributes.update(attributes)


def _note_stages(
    call: Call,
    plan: Plan,
    times: Sequence[StageTime],
    missing: int,
    more: Mapping[str, AttributeValue] | None = None,
) -> None:
    """One child span per stage, with what it worked on and which version of what did the work."""
    for stage in times:
        attributes: dict[str, AttributeValue] = {names.CANDIDATES: stage.candidate_count, **(more or {})}
        if stage.stage == stages.RETRIEVE:
            attributes[names.MISSING] = missing
            attributes[names.SCHEMA_VERSION] = plan.versions.schema
        elif stage.stage == stages.MODEL and plan.versions.model:
            attributes[names.MODEL_VERSION] = plan.versions.model
        else:
            attributes[names.PROFILE_VERSION] = plan.versions.profile
        call.stages.append(Stage(stage.stage, stage.start_ns, stage.end_ns, attributes))
