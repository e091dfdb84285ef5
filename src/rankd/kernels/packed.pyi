"""Rows of an entity packed into bytes of their own, and back: see csrc/rk_packed.h."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_VERSION: Final[int]
VERSION_AT: Final[int]
"""Where the 5 bytes of the version begin; the byte of flags follows."""
TOMBSTONE_FLAG: Final[int]
MISSING: Final[int]
LIVE: Final[int]
TOMBSTONE: Final[int]
WRONG_ID: Final[int]
DAMAGED: Final[int]
OTHER_LAYOUT: Final[int]

class PackedCell(NamedTuple):
    """What a value consists of: one element or, ragged, several; an element of a text, an integer, `width` bytes."""

    is_ragged: bool = ...
    has_text: bool = ...
    has_int: bool = ...
    width: int = ...

class PackedColumn(NamedTuple):
    """One cell of n rows. `state` uint8 (n,): 0 none, 1 a value, 2 cleared; `times_ms` int64 (n,). Of rows with a value
    only: `lengths` int64 (of ragged cells), then by element `texts`, `ints` int64 and `fixed` uint8 (elements, width);
    None where the cell has none of it."""

    state: NDArray[np.uint8]
    times_ms: NDArray[np.int64]
    lengths: NDArray[np.int64] | None
    texts: Sequence[str] | None
    ints: NDArray[np.int64] | None
    fixed: NDArray[np.uint8] | None

class PackedRows(NamedTuple):
    """n rows. `status` uint8 (n,): LIVE …; `ids`: as asked for, else those found; `fingerprints` uint32, `versions` and
    `latest_ms` int64 (n,). Of rows that are MISSING or DAMAGED: "" and 0."""

    status: NDArray[np.uint8]
    ids: Sequence[str]
    fingerprints: NDArray[np.uint32]
    versions: NDArray[np.int64]
    latest_ms: NDArray[np.int64]
    columns: Sequence[PackedColumn]

class PackedLayout:
    """The cells of an entity's rows and their fingerprint. Immutable; safe for threads."""

    def __init__(self, cells: Sequence[PackedCell], fingerprint: int) -> None: ...
    def pack(
        self,
        status: NDArray[np.uint8],
        ids: Sequence[str],
        versions: NDArray[np.int64],
        latest_ms: NDArray[np.int64],
        columns: Sequence[PackedColumn],
    ) -> list[bytes]:
        """One bytes per row, LIVE or TOMBSTONE. ValueError for arrays of another type or length, a version out of
        bounds, a time later than `latest_ms`. UnicodeEncodeError for texts that UTF-8 cannot encode."""

    def unpack(self, rows: Sequence[bytes | None], ids: Sequence[str] | None = None) -> PackedRows:
        """The inverse. `ids`: whose rows they must be; else they come as WRONG_ID. Any bytes will do. ValueError for
        ids of another number."""
