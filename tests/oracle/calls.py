"""A call from message to message, as csrc/rk_rank.h has it: what a Ranker is compared with."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from oracle import decode, encode
from oracle.rank import RankedPage, Shared, open_page, rank_list, score_list, share
from oracle.request import CandidateList, RequestContext, Retrieved
from oracle.stages import row_ids
from rankd.errors import RankdError, Reason, RequestError
from rankd.limits import RequestLimits
from rankd.ranking.plan import Plan
from rankd.signals.store import SignalRows, SignalStore
from rankd.types.columns import CategoryColumn
from rankd.types.text import stored_ids
from rankd.v1 import ranking_pb2 as pb


@dataclass(frozen=True)
class OracleCalls:
    """The methods of RankingService; errors are raised. `max_rescored` as in Ranker.rank."""

    plans: Mapping[str, Plan]
    store: SignalStore
    limits: RequestLimits
    now_s: float
    max_rescored: int | None = None

    async def rank(self, request: pb.RankRequest, request_id: str) -> pb.RankResponse:
        """Rank."""
        decode.check_request_id(request.request_id)
        plan = decode.find_plan(self.plans, request.profile)
        context = decode.decode_request(request, plan, self.store.categories, self.limits, self.now_s)
        candidates = decode.decode_list(
            request.candidates,
            plan.profile,
            self.limits,
            page_size=decode.decode_page_size(request, self.limits),
            page_token=request.page_token,
            view=decode.decode_view(request.view),
        )
        page = await self._page(plan, context, candidates)
        return encode.encode_page(plan, candidates.ids, page, request.request_id or request_id)

    async def score(self, request: pb.ScoreRequest, request_id: str) -> pb.ScoreResponse:
        """Score."""
        decode.check_request_id(request.request_id)
        plan = decode.find_plan(self.plans, request.profile)
        context = decode.decode_request(request, plan, self.store.categories, self.limits, self.now_s)
        candidates = decode.decode_list(request.candidates, plan.profile, self.limits)
        retrieved = await self._retrieve(plan, context, candidates)
        scored = score_list(
            plan, self.store.categories, context, candidates, retrieved, request.raw, itertools.count().__next__
        )
        return encode.encode_scores(
            plan, candidates.ids, scored, request.request_id or request_id, request.include_features
        )

    async def batch_rank(self, request: pb.BatchRankRequest, request_id: str) -> list[pb.RankResponse | RankdError]:
        """BatchRank: a response or an error for each list."""
        common = request.common
        decode.check_request_id(common.request_id, "common.request_id")
        plan = decode.find_plan(self.plans, common.profile, "common.profile")
        self._check_batch(request)
        context = decode.decode_request(common, plan, self.store.categories, self.limits, self.now_s, "common.")
        decode.decode_page_size(common, self.limits, "common.")
        decode.decode_view(common.view, "common.view")
        shared = share(plan, self.store.categories, context)
        results: list[pb.RankResponse | RankdError] = []
        for i in range(len(request.lists)):
            own_id = request.lists[i].request_id or f"{(common.request_id or request_id)[:120]}-{i}"
            try:
                results.append(await self._rank_one(plan, context, shared, request, i, own_id))
            except RankdError as error:
                results.append(error)
        return results

    def _check_batch(self, request: pb.BatchRankRequest) -> None:
        limits, common = self.limits, request.common
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
            expected = f"at most {limits.max_batch_candidates} candidates in all lists together"
            raise RequestError.one(Reason.LIMIT_EXCEEDED, "lists", expected, f"{total}")

    async def _rank_one(
        self, plan: Plan, context: RequestContext, shared: Shared, request: pb.BatchRankRequest, i: int, own_id: str
    ) -> pb.RankResponse:
        one, prefix = request.lists[i], f"lists[{i}]."
        decode.check_request_id(one.request_id, f"{prefix}request_id")
        page_size = decode.decode_page_size(one, self.limits, prefix)
        candidates = decode.decode_list(
            one.candidates,
            plan.profile,
            self.limits,
            prefix,
            page_size=decode.decode_page_size(request.common, self.limits) if page_size is None else page_size,
            page_token=one.page_token,
            view=decode.decode_view(request.common.view),
        )
        page = await self._page(plan, context, candidates, shared)
        return encode.encode_page(plan, candidates.ids, page, own_id)

    async def _page(
        self, plan: Plan, context: RequestContext, candidates: CandidateList, shared: Shared | None = None
    ) -> RankedPage:
        cursor = open_page(plan, self.store.categories, context, candidates)
        if cursor is not None:
            context = replace(context, as_of_s=cursor.as_of_s)
        retrieved = await self._retrieve(plan, context, candidates)
        return rank_list(
            plan, self.store.categories, context, candidates, retrieved, cursor, itertools.count().__next__, shared,
            self.max_rescored,
        )  # fmt: skip

    async def _retrieve(self, plan: Plan, context: RequestContext, candidates: CandidateList) -> Retrieved:
        rows: dict[str, SignalRows] = {}
        ages: dict[str, NDArray[np.float32]] = {}
        first = plan.reads[0]
        stored = stored_ids(first.entity, candidates.ids)
        categories: dict[str, list[str]] = {}
        for read in plan.reads:
            key = (first.entity,) if read is first else self.store.schema.entities[read.entity].key or (read.entity,)
            ids = row_ids(key, first.entity, context, stored, categories)
            rows[read.entity] = await self.store.read(read.entity, ids, read.signals, context.as_of_s)
            if read is first:
                categories |= self._category_texts(rows[first.entity])
            for name, age in self._ages(read.entity, ids, read.signals, context.as_of_s).items():
                ages[name] = age if len(age) == len(stored) else np.resize(age, len(stored))
        return Retrieved(rows, ages)

    def _category_texts(self, rows: SignalRows) -> dict[str, list[str]]:
        text = self.store.categories.text
        return {
            name: [text(code) if code >= 0 else "" for code in column.codes.tolist()]
            for name, column in rows.columns.items()
            if isinstance(column, CategoryColumn)
        }

    def _ages(
        self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float
    ) -> dict[str, NDArray[np.float32]]:
        reading = self.store.tables.tables[entity].reading(self.store.tables.times(entity, signals))
        now_ms = round(now_s * 1000)
        ages: dict[str, NDArray[np.float32]] = {}
        for signal, times in zip(signals, reading.read(ids, now_ms).columns, strict=True):
            assert isinstance(times, np.ndarray)
            known = times != np.iinfo(np.int64).min
            ages[f"{entity}.{signal}"] = np.where(known, (now_ms - times) / 1000, np.nan).astype(np.float32)
        return ages
