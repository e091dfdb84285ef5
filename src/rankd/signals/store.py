"""SignalStore: the one interface to what is known about entities.

Every backend passes tests/signals/test_conformance. Ids are any non-empty Unicode text.
A store is used from one event loop; columns it has handed out stay valid and unchanged
while it is written to.

Where backends differ, because they must (tests/signals/conformance.Traits):

- What is acknowledged outlives the process, but for an EmbeddedStore without a data directory. Redis keeps what it has
  been set up to keep.
- `max_rows_per_entity` bounds the tables of this machine. Entities that are fetched are in Redis alone, whose
  `maxmemory` bounds them.
- `row_counts` of entities that are fetched hold what this machine has written, and what others have some time later.
- A row that is deleted and written again: an EmbeddedStore remembers the deletion for its while, so that amounts of a
  time before it stay late. In Redis the row has taken the tombstone's place: they are late only as long as it has not.
- signals.redis.store.RedisStore is the half of a store that speaks to Redis: it has no tables, and so no `read`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankd.types.columns import Column
from rankd.types.schema import Schema

if TYPE_CHECKING:
    from rankd.signals.mapped import MappedTables


@dataclass(frozen=True, slots=True)
class SetValues:
    """Members of consecutive rows, concatenated; `lengths` (rows,) int64 sums to len(members)."""

    members: Sequence[str]
    lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MapValues:
    """Keys and float32 values of consecutive rows, concatenated; `lengths` (rows,) int64 sums to len(keys)."""

    keys: Sequence[str]
    values: NDArray[np.float32]
    lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WindowValues:
    """Buckets of consecutive rows, concatenated: `buckets` int32, ascending and distinct within a row: start time in ms
    / bucket length in ms; `counts` float32; `lengths` (rows,) int64 sums to len(buckets)."""

    buckets: NDArray[np.int32]
    counts: NDArray[np.float32]
    lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ListValues:
    """Members of consecutive rows, newest first within a row, with their times (int64, ms since 1970), concatenated;
    `lengths` (rows,) int64 sums to len(members)."""

    members: Sequence[str]
    times_ms: NDArray[np.int64]
    lengths: NDArray[np.int64]


Values: TypeAlias = (
    NDArray[np.float32]
    | NDArray[np.float64]
    | NDArray[np.int64]
    | NDArray[np.bool_]
    | Sequence[str]
    | SetValues
    | MapValues
    | WindowValues
    | ListValues
)
"""By kind: f32 float32 (n,); i64 and timestamp (ms) int64 (n,); bool bool (n,); category and string
a sequence of n str; embedding float32 (n, dimension); set SetValues; map MapValues; decayed_counter float64 (n,), as
of the value's time; windowed_counter WindowValues; list ListValues. A ratio has no values to write; it is read as
float32."""


class Operation(enum.Enum):
    """What a column does to what is stored."""

    SET = 0
    """Replaces it, unless what is stored is of a later time."""
    ADD = 1
    """Adds to it as of the row's time, in whatever order: decayed_counter and windowed_counter: float64 (n,) amounts;
    map: MapValues of amounts; list: a sequence of n str, one member each. Other kinds cannot be added to."""


@dataclass(frozen=True, slots=True)
class ColumnValues:
    """One signal's values for some rows of a batch.

    `rows`: positions in the batch, ascending, int64 (n,). `clear_rows`: positions whose
    value becomes missing, disjoint from `rows`. A float NaN clears, too. `times_ms` (n,) int64: when each value was
    so, where that is not the row's time; `clear_times_ms` the same of `clear_rows`.
    """

    signal: str
    rows: NDArray[np.int64]
    values: Values
    clear_rows: NDArray[np.int64]
    operation: Operation = Operation.SET
    times_ms: NDArray[np.int64] | None = None
    clear_times_ms: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """A partial upsert of entities of one kind. Names, types and lengths are already checked
    against the schema (signals.check); values are not.

    `event_ms`: when each row was so, int64 (n,), ms since 1970; None: now. A value is written only if the stored one is
    not of a later time (at the same time the later write wins). `write_id`: a batch of that id is written once; "":
    each time. `event_ids`: by row; a row is left out if a row of that event id was written to that entity and id
    before; "" is no event id; None: none has one. What was written before is remembered for some time (limits).
    """

    entity: str
    ids: Sequence[str]
    columns: Sequence[ColumnValues]
    event_ms: NDArray[np.int64] | None = None
    write_id: str = ""
    event_ids: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that was not written: its position, the signal at fault ("" for the id), why. `part`: what of it: "" the id
    or value itself, "time" its time, "event_id"."""

    row: int
    signal: str
    description: str
    part: str = ""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """How many rows were accepted, and which were not.

    `late_count`: values that were not written because what an earlier row of the batch says of the same id, or else
    what is stored, is of a later time; of several rows of an id only what they come to is compared with what is stored.
    Amounts are late only where their row was deleted after their time. `repeated`: positions of
    rows left out because their event id or the batch's write id came before, ascending; they count as written.
    """

    written_count: int
    rejected: Sequence[Rejection]
    late_count: int = 0
    repeated: Sequence[int] = ()

    @property
    def repeated_count(self) -> int:
        """How many rows were left out."""
        return len(self.repeated)


@dataclass(frozen=True, slots=True)
class SignalRows:
    """What `read` gives: one column per signal asked for, each as long as the ids; `found` bool (n,)."""

    columns: Mapping[str, Column]
    found: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StoredRows:
    """What `get` gives: exactly what was written, for the ids that exist.

    `found`: positions in the ids asked for, ascending. `columns`: rows are positions in `found`, `times_ms` is given.
    `written_ms`: the latest time of a value of each row, int64 (len(found),), ms since 1970.
    """

    found: NDArray[np.int64]
    columns: Sequence[ColumnValues]
    written_ms: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScanPage:
    """What `scan` gives: ids, what is stored of them (`rows.found` is all of them), and where to go on; "": the end."""

    ids: Sequence[str]
    rows: StoredRows
    cursor: str


@dataclass(frozen=True, slots=True)
class SignalStatistics:
    """Of one signal: how many rows have a value, and of these values the age in seconds: median and greatest (NaN:
    none). May be of a sample of rows: then `filled_count` is an estimate."""

    filled_count: int
    median_age_s: float
    greatest_age_s: float


@dataclass(frozen=True, slots=True)
class EntityStatistics:
    """Of one entity. `used_bytes`: in this machine's tables, or estimated of Redis. `signals`: by name, of those
    stored."""

    row_count: int
    used_bytes: int
    signals: Mapping[str, SignalStatistics]


@dataclass(frozen=True, slots=True)
class Fetched:
    """How a `fetch` went. `is_complete`: False: the backend did not answer; what was there was used. `is_stale`: of
    what was used, something is older than the cache's TTL. `lease`: as long as somebody has it, the rows stay
    in `tables`."""

    is_complete: bool = True
    is_stale: bool = False
    lease: object | None = None


class Categories(Protocol):
    """The process-wide dictionary of category strings. Codes are stable while a process lives. Safe for
    threads."""

    def intern(self, text: str) -> int:
        """The string's code, given one if it has none. StoreFullError at MAX_CATEGORIES."""

    def code(self, text: str) -> int:
        """The string's code, or -1."""

    def text(self, code: int) -> str:
        """The string of a code."""


class SignalStore(Protocol):
    """See the module's docstring."""

    @property
    def schema(self) -> Schema: ...

    @property
    def categories(self) -> Categories: ...

    @property
    def tables(self) -> MappedTables:
        """The same signals for compiled code."""

    async def read(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> SignalRows:
        """Columns of some signals for ids in the order given; defaults and TTLs (against now_s) applied.
        Unknown ids read as missing. No signals is allowed: it tells which ids are known."""

    async def write(self, batch: WriteBatch) -> WriteResult:
        """Upserts. When it returns, the accepted rows are durable and visible to every later read."""

    async def get(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> StoredRows:
        """Values as written (no defaults; expired ones are missing)."""

    async def delete(self, entity: str, ids: Sequence[str]) -> int:
        """Deletes rows, durably; returns how many existed."""

    async def scan(self, entity: str, signals: Sequence[str], cursor: str, most: int, now_s: float) -> ScanPage:
        """Rows of an entity in no order, from a cursor on ("": the beginning), about `most` of them. Every row that is
        there from beginning to end comes, at least once. RequestError for a cursor that is none."""

    async def forget(self, user_id: str) -> Mapping[str, int]:
        """Deletes everything kept under a user's id, durably: its rows of `user` and of composite entities that have
        `user` in their key. Rows deleted, by entity."""

    @property
    def fetched(self) -> frozenset[str]:
        """Entities whose rows must be fetched before compiled code can read them; embedded: none."""

    async def fetch(self, wanted: Mapping[str, Sequence[str]], timeout_s: float) -> Fetched:
        """Brings rows of `fetched` entities into `tables`, in one round trip; never fails: see Fetched. What is brought
        stays as long as the result's lease is held."""

    def row_counts(self) -> Mapping[str, int]:
        """Rows per entity."""

    async def statistics(self, now_s: float) -> Mapping[str, EntityStatistics]:
        """By entity. Takes time in proportion to a bounded sample of rows, off the event loop."""

    async def close(self) -> None:
        """Releases files; the store is not used afterwards."""
