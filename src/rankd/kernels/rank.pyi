from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rankd.kernels.program import ProgramKernel
from rankd.kernels.scorer import ScorerKernel
from rankd.kernels.table import Table, TableReading

SOURCES: Mapping[str, int]
PARTS: Mapping[str, int]
CONTEXT_FIELDS: Mapping[str, int]
"""By the names of ContextValue's fields."""
FAULTS: tuple[str, ...]
FIELDS: tuple[str, ...]
"""RK_FAULTS and RK_FIELDS of csrc/rk_rank.h."""

FaultValues: TypeAlias = tuple[str, str, int, int, int, int, int, float, str, str, str]
"""kind, field, index, at, limit, count, other, number, text, name, request_id: see csrc/rk_rank.h."""

StageValues: TypeAlias = tuple[str, int, int, int, int, int]
"""stage, start_ns, end_ns, candidate_count, list_index, missing_count."""

CallValues: TypeAlias = tuple[
    bytes,
    FaultValues | None,
    list[tuple[int, int, FaultValues]],
    int,
    str,
    int,
    int,
    int,
    int,
    int,
    bool,
    list[StageValues],
]
"""answer, fault, list faults (list, offset, fault), plan number (-1: none), request_id; counts of candidates, missing,
re-scored and returned ones, and of lists; whether degraded; stages."""

class PlanKernel:
    """A checked, immutable plan of csrc/rk_rank.h. Holds what it points to."""

    def __init__(
        self,
        *,
        name: str,
        versions: tuple[str, str, str],
        features: ProgramKernel,
        feature_inputs: Sequence[tuple[str, int, int]],
        feature_names: Sequence[str],
        base: ProgramKernel | None,
        base_inputs: Sequence[tuple[str, int, int]],
        scorer: ScorerKernel | None,
        output_names: Sequence[str],
        model_rows: Sequence[int] | None,
        rerank_count: int | None,
        reads: Sequence[tuple[TableReading, TableReading, Sequence[str], Sequence[tuple[str, int]], bool, bool]],
        categories: tuple[TableReading, int] | None,
        columns: Sequence[str],
        contexts: Sequence[tuple[str, str, int]],
        dictionary: Table,
        candidate_cost: float,
        scored_cost: float,
    ) -> None:
        """`versions`: profile, model, schema. Inputs: (a key of SOURCES, index, reading). `model_rows`: the feature of
        each of the model's inputs. `reads`: (reading, the same, then the time of each value, names of its columns,
        parts of the ids: (a key of PARTS, a column of the first read), whether ids are keys, whether rows are fetched),
        the candidates' first. `categories`: of the first read the leading columns without TTL, and how many; None: no
        fetched row's id is made of them. `contexts`: (name, a key of CONTEXT_FIELDS, dimension). Costs: ns a candidate,
        and one the model scores. ValueError if parts do not fit each other. Tables' columns must be of the kinds that
        the inputs have."""

class CallKernel:
    """A call that is decoded and checked. For one thread at a time; `run` once."""

    @property
    def cost(self) -> float: ...
    @property
    def plan_number(self) -> int: ...
    @property
    def wants(self) -> list[tuple[int, list[str]]]:
        """Rows to be brought before `run`: (number of a read, ids)."""

    def run(self, told: bytes = b"") -> CallValues:
        """`told`: encoded fields of a response, put into every answer."""

class RankKernel:
    """An immutable set of plans. Safe from several threads."""

    def __init__(self, plans: Sequence[PlanKernel], limits: Mapping[str, int]) -> None:
        """`limits`: the fields of rk_rank_limits."""

    def rank(
        self,
        method: int,
        data: bytes,
        request_id: bytes,
        now_s: float,
        deadline_ns: int | None,
        inline_cost: float,
        max_rescored: int | None,
        degradation: bytes,
        with_stages: bool,
    ) -> CallValues | CallKernel:
        """A call from bytes to bytes, or, if its cost is above `inline_cost` or rows are to be brought, up to where the
        work begins."""
