from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_ID_BYTES: int
"""UTF-8 bytes of an id, at most."""
MAX_VALUE_BYTES: int
"""Bytes of one text, of a set's codes, or of a map's codes and values, at most."""

KINDS: tuple[str, ...]
"""Kinds of cells, as Cell has them."""
ELEMENTS: tuple[str, ...]
"""What numbers of vectors are kept as."""
PARTS: tuple[str, ...]
"""What can be read of cells."""
TYPES: tuple[int, ...]
"""By kind, NumPy's number of the type that values have."""

class TableFullError(Exception):
    """No room within `max_rows` or `max_bytes` (or the 2^31 - 256 rows that a table can have). `limit` names which:
    "max_rows" or "max_bytes". Nothing was changed."""

    limit: str

class NotATableError(Exception):
    """The files are no table that can be opened; `reason`: "not a table", "damaged", "other layout" (version, cells,
    fingerprint, or less address space than max_bytes), "in use" (another writer has it). Nothing was changed."""

    reason: str

class Cell(NamedTuple):
    """What a row has of one kind of value. `kind`: "f32", "f64", "i64", "bool", "code", "vector" (`width` numbers, kept
    as `element` says: "f32", "f16", "i8"), "text", "set", "map". `timed`: the value's time lies beside it: 8 bytes a
    row, but it is never looked for elsewhere; for values that expire, decay, or change by themselves."""

    kind: str
    width: int = 0
    timed: bool = False
    element: str = "f32"

class CellWrite(NamedTuple):
    """Values of one cell for some ids of a batch.

    `rows`: positions in the ids, ascending, int64 (n,). `values`: f32 float32 (n,), f64 float64 (n,), i64 int64 (n,),
    bool int8 (n,) of 0 and 1, code int32 (n,), vector float32 (n, width) whatever its element (f16: beyond 65,504 they
    become infinite; i8: one scale a row, the largest magnitude / 127; what is read and written again stays the same);
    text uint8, set and map int32: the values' bytes or codes (ascending and distinct within one), joined,
    with `lengths` int64 (n,); `map_values` float32, beside a map's codes.
    `clear_rows`: other positions, ascending, int64: their value becomes missing. `times_ms`, `clear_times_ms`: the time
    of each value and of each clear, int64; None: the row's. The least int64 as a clear's: as if it never was written.
    Times are within +-2^61.
    """

    cell: int
    rows: NDArray[np.int64]
    values: NDArray[Any]
    clear_rows: NDArray[np.int64]
    lengths: NDArray[np.int64] | None = None
    map_values: NDArray[np.float32] | None = None
    times_ms: NDArray[np.int64] | None = None
    clear_times_ms: NDArray[np.int64] | None = None

class CellRead(NamedTuple):
    """How one cell is read.

    `part`: "number": f32, f64, i64 (divided by `divisor`) and bool come out as float64, with `missing` where there is
    none; "stored": as they are, missing as NaN, the least int64, -1. Other kinds are the same in both; vectors float32.
    "time": the value's time, int64 ms, the least int64 where there is no value; "changed": when it was last set or
    cleared, the least int64: never.
    "decayed": f32 and f64 as float64, maps as maps, times 2^-(age / half_life_ms); the age is not below 0.
    "window": of a map whose codes are floor(ms / bucket_ms), the sum of the last `bucket_count` of them up to now,
    float64; `missing` where the map is. "ratio": (sum + prior_mean * prior_weight) / (sum of `denominator` +
    prior_weight), where missing maps, and those of unknown ids, count as 0; `missing` for 0 / 0. `denominator`: a
    CellRead of the part "window".
    `ttl_ms`: a value is missing from so long after its time on; 0: never.
    """

    cell: int
    part: str = "number"
    divisor: float = 1.0
    missing: float = ...
    ttl_ms: int = 0
    half_life_ms: float = 0.0
    bucket_ms: int = 0
    bucket_count: int = 0
    denominator: CellRead | None = None
    prior_mean: float = 0.0
    prior_weight: float = 0.0

class Spans(NamedTuple):
    """A column of texts (data uint8), sets (data int32 codes) or maps (and `values` float32 beside them): row i is
    data[offsets[i] : offsets[i] + lengths[i]]; length -1 (int32) is missing."""

    data: NDArray[Any]
    values: NDArray[np.float32] | None
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]

class TableRows(NamedTuple):
    """What a reading gives, by position in the ids asked for. `columns`: an array or Spans for each CellRead.
    `written_ms`: the row's latest time, int64, 0 where not found. `keys`: journal keys, int64, -1: not found, none."""

    found: NDArray[np.bool_]
    columns: list[NDArray[Any] | Spans]
    written_ms: NDArray[np.int64]
    keys: NDArray[np.int64]

class Table:
    """What a reader and a writer can do (csrc/rk_table.h). Any thread may call any method at any time; what takes long
    releases the GIL. After `close` every method raises ValueError; files are unmapped when the last TableReading is
    gone, too. Texts that UTF-8 cannot encode (lone surrogates) raise UnicodeEncodeError."""

    def __len__(self) -> int:
        """Live rows; of a dictionary: its texts."""
    @property
    def cells(self) -> tuple[Cell, ...]: ...
    @property
    def fingerprint(self) -> bytes:
        """32 bytes, the creator's."""
    @property
    def set_id(self) -> int:
        """The creator's number (uint64)."""
    @property
    def applied(self) -> int:
        """The number (uint64) that the writer set last; 0 at first."""
    @property
    def is_retired(self) -> bool:
        """The writer will write here no more: newer files take the table's place."""
    @property
    def is_clean(self) -> bool: ...
    @property
    def boot(self) -> bytes:
        """32 bytes, the writer's; zeros at first."""
    @property
    def used_bytes(self) -> int:
        """Bytes that the files take."""
    def find(self, ids: Sequence[str]) -> NDArray[np.bool_]: ...
    def keys(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Journal keys; -1: no such id, or without a key. Of a table without keys `find` is the question."""
    def reading(self, cells: Sequence[CellRead]) -> TableReading: ...
    def codes(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Of a dictionary: codes, -1: unknown."""
    def texts(self, codes: NDArray[np.int32]) -> list[str]:
        """Of a dictionary: texts. ValueError for a code that none has."""
    def ids(self, start: int, most: int, generation: int = 0) -> tuple[list[str], int, int]:
        """Ids of live rows from a place on (0: the first), at most `most` of them; the next place, 0: that was all; and
        the generation that places are of: with another one, reading starts over. A row that is there all the time comes
        at least once."""
    def close(self) -> None: ...

class TableReading:
    """Which cells a caller wants, checked once. ValueError from Table.reading if they are no cells of the table."""

    def read(self, ids: Sequence[str], now_ms: int) -> TableRows:
        """Ids in any order, distinct or not; empty ones are not found. Each row is one version, whole."""

class TableReader(Table):
    """Opens `path` (PATH.rows, PATH.heap, PATH.index.N) for reading. FileNotFoundError, OSError, NotATableError."""

    def __init__(self, path: str) -> None: ...
