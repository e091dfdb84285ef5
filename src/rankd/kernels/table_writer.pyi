from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.table import Cell, CellWrite, Table

class StagedRows:
    """A batch for which room is held: `publish` cannot fail. One of publish and drop is called, once; a batch that is
    let go of is dropped.

    `late_counts`: once published, how many values and clears of each CellWrite were late, uint64."""

    late_counts: NDArray[np.uint64]

    def publish(self) -> int:
        """Each row becomes its new version at once; rows become so one after another. How many values and clears were
        left out because what was there is later. Releases the GIL."""
    def drop(self) -> None: ...

class TableWriter(Table):
    """The one writer. Its calls exclude each other, whatever threads they come from; reads go on meanwhile. `close` is
    called when no other call is going on. A new id that stands in two batches staged at once counts twice against
    `max_rows` until the first is published."""

    @staticmethod
    def create(
        path: str, cells: Sequence[Cell], *, max_rows: int, max_bytes: int, fingerprint: bytes = ..., set_id: int = 0
    ) -> TableWriter:
        """New files; those that were there are unlinked (who has them open keeps them). `max_bytes`: of the rows, the
        heap and the index together. ValueError for bad cells; OSError (full disk: errno ENOSPC); NotATableError where
        another writer has what is there."""
    @staticmethod
    def attach(
        path: str, cells: Sequence[Cell], *, max_rows: int, max_bytes: int, fingerprint: bytes = ...
    ) -> TableWriter:
        """Goes on with files that another writer left, in good order or not: every row is as that writer published it
        last. FileNotFoundError, OSError; NotATableError: create them anew. `max_bytes` may not be above what the
        table was created with."""
    def stage(
        self,
        ids: Sequence[str],
        cells: Sequence[CellWrite],
        written_ms: NDArray[np.int64] | int,
        keys: NDArray[np.int64] | None = None,
        *,
        is_absolute: bool = False,
    ) -> StagedRows:
        """Holds room for an upsert of distinct ids beside what is held already. Cells that are not named keep their
        value and time (missing in a new row); so does a key where `keys` is None or has -1. Keys: 0 to 2^40 - 2.
        A value or a clear that is older than what its cell was last set or cleared at is left out when the batch is
        published; the row's latest time can only grow. `is_absolute`: all is taken as it is said, `written_ms` too.
        Arrays are borrowed and must not change until publish. TableFullError, OSError, MemoryError: nothing is held."""
    def delete(self, ids: Sequence[str]) -> int:
        """Removes rows; how many there were. Cannot fail for want of room."""
    def intern(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Of a dictionary (a table without cells, never deleted from): codes, given to those that have none. All or
        none: TableFullError, OSError, MemoryError."""
    def set_applied(self, number: int) -> None: ...
    def set_clean(self, is_clean: bool, boot: bytes) -> None: ...
    def retire(self) -> None: ...
    def flush(self) -> None:
        """Writes everything to the disk (msync). OSError."""
