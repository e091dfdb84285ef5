"""SignalStore: the one interface to what is known about entities.

Every backend passes tests/signals/conformance. Ids are any non-empty Unicode text.
A store is used from one event loop; columns it has handed out stay valid and unchanged
while it is written to.
"""

from __future__ import annotations

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


Values: TypeAlias = NDArray[np.float32] | NDArray[np.int64] | NDArray[np.bool_] | Sequence[str] | SetValues | MapValues
"""By kind: f32 float32 (n,); i64 and timestamp (ms) int64 (n,); bool bool (n,); category and string
a sequence of n str; embedding float32 (n, dimension); set SetValues; map MapValues."""


@dataclass(frozen=True, slots=True)
class ColumnValues:
    """One signal's values for some rows of a batch.

    `rows`: positions in the batch, ascending, int64 (n,). `clear_rows`: positions whose
    value becomes missing, disjoint from `rows`. A float NaN clears, too.
    """

    signal: str
    rows: NDArray[np.int64]
    values: Values
    clear_rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """A partial upsert of entities of one kind. Names, types and lengths are already checked
    against the schema (signals.check); values are not."""

    entity: str
    ids: Sequence[str]
    columns: Sequence[ColumnValues]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that was not written: its position, the signal at fault ("" for the id), why."""

    row: int
    signal: str
    description: str


@dataclass(frozen=True, slots=True)
class WriteResult:
    """How many rows were written, and which were not."""

    written_count: int
    rejected: Sequence[Rejection]


@dataclass(frozen=True, slots=True)
class SignalRows:
    """What `read` gives: one column per signal asked for, each as long as the ids; `found` bool (n,)."""

    columns: Mapping[str, Column]
    found: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StoredRows:
    """What `get` gives: exactly what was written, for the ids that exist.

    `found`: positions in the ids asked for, ascending. `columns`: rows are positions in `found`.
    `written_ms`: when each row was last written, int64 (len(found),), ms since 1970.
    """

    found: NDArray[np.int64]
    columns: Sequence[ColumnValues]
    written_ms: NDArray[np.int64]


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

    def row_counts(self) -> Mapping[str, int]:
        """Rows per entity."""

    async def close(self) -> None:
        """Releases files; the store is not used afterwards."""
