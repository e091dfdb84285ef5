from collections.abc import Sequence
from typing import NamedTuple

from rankd.kernels.packed import PackedCell
from rankd.kernels.table import Table
from rankd.kernels.table_writer import TableWriter

INTO: tuple[str, ...]
"""What a packed cell can become: RK_INTO_ of csrc/rk_packed_table.h."""

class Put(NamedTuple):
    """`status`: of each row, as of PackedLayout.unpack. `unknown`: strings that have to be given codes first, some
    maybe more than once; `is_other`: a text has to be normalised in Python. In both cases nothing was put."""

    status: bytes
    unknown: list[str]
    is_other: bool

class PackedTarget:
    """Puts packed rows into a table of this process. Belongs to one thread."""

    def __init__(
        self,
        cells: Sequence[PackedCell],
        fingerprint: int,
        into: Sequence[tuple[str, int, int]],
        table: TableWriter,
        dictionary: Table,
    ) -> None:
        """`into`: of each packed cell what it becomes (one of INTO), the table's cell, and a vector's width, else 0.
        ValueError if they do not fit each other."""
    def put(self, ids: Sequence[str], rows: Sequence[bytes | None]) -> Put:
        """Rows of distinct ids, whose they must be; those that are live replace what the table has. Any bytes will do.
        Errors of TableWriter.stage."""
