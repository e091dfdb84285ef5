"""Ranker: plans and a store, compiled into one call from request bytes to response bytes.

    decode - check - retrieve - features - base - model - page - encode

Immutable, swapped as a whole. What a call does stands in csrc/rk_rank.h; this makes the kernel's plans of
rankd's own, and puts names to what comes back.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from rankd import limits as bounds
from rankd.errors import ConfigError
from rankd.features.program import CompiledProgram, Input, Source
from rankd.kernels.rank import CallKernel, PlanKernel, RankKernel
from rankd.kernels.table import TableReading
from rankd.limits import RequestLimits
from rankd.ranking.faults import RankFault
from rankd.ranking.plan import Plan
from rankd.signals.store import SignalStore
from rankd.types.profile import ContextKind
from rankd.types.text import QUERY

if TYPE_CHECKING:
    from rankd.kernels.rank import CallValues, FaultValues


class Method(enum.IntEnum):
    """The methods of RankingService, by the numbers of csrc/rk_rank.h."""

    RANK = 0
    BATCH_RANK = 1
    SCORE = 2


class StageTime(NamedTuple):
    """When a stage ran (ns of CLOCK_MONOTONIC, as perf_counter_ns) and for how many candidates.

    `list_index`: of a batch; -1: the only list. `missing_count`: candidates of the list that the store does not know.
    """

    stage: str
    start_ns: int
    end_ns: int
    candidate_count: int
    list_index: int
    missing_count: int


class Ranked(NamedTuple):
    """How a call ended.

    `answer`: an encoded response, b"" with a `fault`. `list_faults`: of a batch, ascending, (list, where in `answer`
    its Result belongs, fault). `plan`: None if none was found. `request_id`: the caller's, or the one given. Counts
    are of all lists together; `list_count` is 0 but for a batch. `degraded`: by `max_rescored`, or by what Pending.run
    was told.
    """

    answer: bytes
    fault: RankFault | None
    list_faults: Sequence[tuple[int, int, RankFault]]
    plan: Plan | None
    request_id: str
    candidate_count: int
    missing_count: int
    rescored_count: int
    returned_count: int
    list_count: int
    degraded: bool
    stages: Sequence[StageTime]


class Pending:
    """A call that is decoded and checked: its work is above inline_cost, so for a thread, or rows are to be fetched."""

    def __init__(self, ranker: Ranker, method: Method, call: CallKernel) -> None:
        self._ranker = ranker
        self._method = method
        self._call = call
        self.cost = call.cost
        """Estimated work, ns."""
        self.wanted: Mapping[str, Sequence[str]] = ranker._wanted(call)
        """By entity, the distinct ids (as they are stored) of rows that SignalStore.fetch is to bring before `run`."""

    def run(self, degradation: bytes = b"") -> Ranked:
        """Does the work. Once; ValueError after that. `degradation` (encoded fields of RankResponse): put into every
        answer, before what Ranker.rank was given."""
        return self._ranker._ranked(self._method, self._call.run(degradation))


class Ranker:
    """See the module's docstring. Safe from several threads; never waits for anything."""

    def __init__(self, plans: Mapping[str, Plan], store: SignalStore, limits: RequestLimits) -> None:
        """ValueError if a plan is of another schema than the store's; ConfigError if one would fetch in two steps."""
        self.plans = plans
        self._by_number = tuple(plans.values())
        self._names = tuple(plans)
        self._kernel = RankKernel([_plan_kernel(name, plan, store) for name, plan in plans.items()], _limits(limits))

    def rank(
        self,
        method: Method,
        data: bytes,
        *,
        request_id: str,
        now_s: float,
        deadline_ns: int | None = None,
        inline_cost: float = math.inf,
        max_rescored: int | None = None,
        degradation: bytes = b"",
        with_stages: bool = False,
    ) -> Ranked | Pending:
        """A call from bytes to bytes; Pending if its work is above `inline_cost` (ns), or if it reads rows that are to
        be fetched. Raises nothing that a caller's bytes could cause.

        `request_id`: for a caller that sent none. `deadline_ns`: of CLOCK_MONOTONIC, looked at between stages.
        `max_rescored`: how many candidates of a first page's list the model may re-score (0: the order is that of the
        base scores); where that changes an answer, `degradation` (encoded fields of RankResponse) is put at its end.
        """
        done = self._kernel.rank(
            method, data, request_id.encode(), now_s, deadline_ns, inline_cost, max_rescored, degradation, with_stages
        )
        return Pending(self, method, done) if isinstance(done, CallKernel) else self._ranked(method, done)

    def _wanted(self, call: CallKernel) -> dict[str, list[str]]:
        reads = self._by_number[call.plan_number].reads
        wanted: dict[str, dict[str, None]] = {}
        for number, ids in call.wants:
            wanted.setdefault(reads[number].entity, {}).update(dict.fromkeys(ids))
        return {entity: list(ids) for entity, ids in wanted.items()}

    def _ranked(self, method: Method, values: CallValues) -> Ranked:
        answer, fault, list_faults, number, request_id = values[:5]
        plan = self._by_number[number] if number >= 0 else None
        common = "common." if method is Method.BATCH_RANK else ""
        return Ranked(
            answer,
            None if fault is None else self._fault(fault, plan, common),
            [(at, offset, self._fault(one, plan, f"lists[{at}].")) for at, offset, one in list_faults],
            plan,
            request_id,
            *values[5:11],
            [StageTime(*stage) for stage in values[11]],
        )

    def _fault(self, values: FaultValues, plan: Plan | None, prefix: str) -> RankFault:
        kind, field = values[:2]
        known: Sequence[str] = ()
        if kind == "unknown_profile":
            known = self._names
        elif plan is not None and kind == "unknown_column":
            known = plan.profile.columns
        elif plan is not None and kind == "unknown_context":
            known = list(plan.profile.context)
        if field in _WHOLE_CALL or (prefix.startswith("lists") and field in _NAMED_ALONE):
            prefix = ""
        return RankFault(*values, prefix=prefix, profile=plan.profile if plan else None, known=known)


_WHOLE_CALL: Final = ("", "lists")
_NAMED_ALONE: Final = ("page_token", "profile")
"""Fields that are named without the list they are of."""

_CONTEXT_FIELDS: Final = {
    ContextKind.NUMBER: "number",
    ContextKind.CATEGORY: "category",
    ContextKind.TEXT: "text",
    ContextKind.EMBEDDING: "vector",
    ContextKind.SET: "set",
    ContextKind.TIMESTAMP: "timestamp",
    ContextKind.BOOL: "flag",
}
"""The field of ContextValue that each declared type is sent in."""


def _limits(limits: RequestLimits) -> dict[str, int]:
    return {
        "candidates": limits.max_candidates,
        "columns": limits.max_columns,
        "id_bytes": limits.max_id_bytes,
        "batch_lists": limits.max_batch_lists,
        "batch_candidates": limits.max_batch_candidates,
        "query_bytes": bounds.MAX_QUERY_BYTES,
        "language_bytes": bounds.MAX_LANGUAGE_BYTES,
        "request_id_bytes": bounds.MAX_REQUEST_ID_BYTES,
        "segments": bounds.MAX_SEGMENTS,
        "labels": bounds.MAX_LABELS,
        "label_bytes": bounds.MAX_LABEL_BYTES,
        "set_members": bounds.MAX_SET_MEMBERS,
    }


def _plan_kernel(name: str, plan: Plan, store: SignalStore) -> PlanKernel:
    if plan.versions.schema != store.schema.version:
        raise ValueError(f"plan {name}: made for schema {plan.versions.schema}, not {store.schema.version}")
    profile, scorer = plan.profile, plan.model.scorer if plan.model else None
    return PlanKernel(
        name=name,
        versions=plan.versions,
        features=plan.features.kernel,
        feature_inputs=_inputs(plan.features, plan),
        feature_names=plan.feature_names,
        base=plan.base.kernel if plan.base else None,
        base_inputs=_inputs(plan.base, plan) if plan.base else [],
        scorer=scorer.kernel if scorer else None,
        output_names=scorer.output_names if scorer else [],
        model_rows=None if plan.model_rows is None else plan.model_rows.tolist(),
        rerank_count=profile.rerank_count,
        reads=_reads(plan, store),
        categories=_categories(name, plan, store),
        columns=profile.columns,
        contexts=[(c.name, _CONTEXT_FIELDS[c.kind], c.dimension) for c in profile.context.values()],
        dictionary=store.tables.dictionary,
        candidate_cost=plan.candidate_cost,
        scored_cost=plan.scored_cost,
    )


_ReadValues: TypeAlias = tuple[TableReading, TableReading, Sequence[str], Sequence[tuple[str, int]], bool, bool]


def _reads(plan: Plan, store: SignalStore) -> list[_ReadValues]:
    columns = {name: i for i, name in enumerate(plan.reads[0].signals)}
    made: list[_ReadValues] = []
    for number, read in enumerate(plan.reads):
        table = store.tables.tables[read.entity]
        cells = store.tables.columns(read.entity, read.signals)
        names = [f"{read.entity}.{signal}" for signal in read.signals]
        parts = [(part.source.value, columns.get(part.signal, 0)) for part in read.parts]
        dated = table.reading([*cells, *store.tables.times(read.entity, read.signals)])
        by_key = number == 0 and read.entity == QUERY
        made.append((table.reading(cells), dated, names, parts, by_key, read.entity in store.fetched))
    return made


def _categories(name: str, plan: Plan, store: SignalStore) -> tuple[TableReading, int] | None:
    """The candidates' signals that ids of fetched rows are made of. They are read before rows are fetched, so they
    cannot be fetched themselves: that would be two round trips."""
    candidates = plan.reads[0]
    fetched = [read for read in plan.reads if read.entity in store.fetched]
    signals = [part.signal for read in fetched for part in read.parts if part.signal]
    if not signals:
        return None
    count = 1 + max(map(candidates.signals.index, signals))
    if candidates in fetched:
        raise ConfigError(
            f"{candidates.entity} is fetched for each request, and so is an entity with {candidates.entity}."
            f"{signals[0]} in its key; one of them must be replicated",
            f"profiles.{name}",
        )
    cells = store.tables.columns(candidates.entity, candidates.signals[:count])
    # Of any age: what is missing by the time of the call costs one row too many, not an answer.
    ageless = [cell._replace(ttl_ms=0) for cell in cells]
    return store.tables.tables[candidates.entity].reading(ageless), count


def _inputs(program: CompiledProgram, plan: Plan) -> list[tuple[str, int, int]]:
    columns = {name: i for i, name in enumerate(plan.profile.columns)}
    contexts = {name: i for i, name in enumerate(plan.profile.context)}
    features = {name: i for i, name in enumerate(plan.feature_names)}
    reads = {read.entity: (i, read.signals) for i, read in enumerate(plan.reads)}

    def place(item: Input) -> tuple[str, int, int]:
        match item.source:
            case Source.SIGNAL:
                reading, signals = reads[item.namespace]
                return "signal", signals.index(item.name), reading
            case Source.COLUMN:
                return "column", columns[item.name], 0
            case Source.CONTEXT:
                return "context", contexts[item.name], 0
            case Source.FEATURE:
                return "feature", features[item.name], 0
            case Source.REQUEST | Source.CANDIDATE:
                return item.name, 0, 0

    return [place(item) for item in program.inputs]
