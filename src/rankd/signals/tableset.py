"""The tables of a schema in one directory: one for each entity, and the dictionary of categories.

    DIRECTORY/SET/entity-NAME.rows .heap .index.N
    DIRECTORY/SET/dictionary.rows …

SET is the set's number. A set is filled once, from the journal, and then follows it: `applied` is the journal's
number of the last group that is in it. It may be taken up again by another process as long as what was written
to the mapped files cannot have been lost: in the same boot of the machine, or after an orderly end.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from rankd.errors import StoreError
from rankd.kernels.table import NotATableError, Table, TableReader
from rankd.kernels.table_writer import TableWriter
from rankd.limits import MAX_CATEGORIES, MAX_CATEGORY_TABLE_BYTES
from rankd.signals.layout import DICTIONARY_FINGERPRINT, EntityLayout

_DICTIONARY: Final = "dictionary"
_MAX_ROWS: Final = 2**31 - 257  # of the kernel: how many an entity may have is counted by its Room
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

AnyTable = TypeVar("AnyTable", bound=Table)
Layouts = Mapping[str, EntityLayout]


class UnfitError(Exception):
    """A set of tables cannot be taken up; the message says why. It is to be made anew."""


@dataclass(frozen=True, slots=True)
class TableSet(Generic[AnyTable]):
    """Open tables. `tables`: by entity."""

    directory: Path
    set_id: int
    tables: Mapping[str, AnyTable]
    dictionary: AnyTable

    @property
    def all_tables(self) -> Sequence[AnyTable]:
        return [*self.tables.values(), self.dictionary]

    @property
    def used_bytes(self) -> int:
        """Bytes that the files take."""
        return sum(table.used_bytes for table in self.all_tables)

    def close(self) -> None:
        for table in self.all_tables:
            table.close()


def new_set_id() -> int:
    """A number that no set had before: when it was made, in ns."""
    return time.time_ns() & (2**63 - 1)


def set_directory(directory: Path, set_id: int) -> Path:
    """Where the files of a set are."""
    return directory / f"{set_id:016x}"


def create_tables(directory: Path, set_id: int, layouts: Layouts, max_bytes: int) -> TableSet[TableWriter]:
    """Empty tables. StoreError if the disk is full or they cannot be made."""

    def create(name: str, layout: EntityLayout | None, max_rows: int, max_bytes: int) -> TableWriter:
        return create_table(name, layout, set_id, max_bytes, max_rows)

    with disk_errors(directory):
        set_directory(directory, set_id).mkdir(parents=True)
        return _each(directory, set_id, layouts, max_bytes, create)


def attach_tables(directory: Path, set_id: int, layouts: Layouts, max_bytes: int) -> TableSet[TableWriter]:
    """Takes up the tables that another process left. UnfitError if they are not there, of another layout,
    damaged, or may have lost what was written to them."""

    def attach(name: str, layout: EntityLayout | None, max_rows: int, max_bytes: int) -> TableWriter:
        return attach_table(name, layout, set_id, max_bytes, max_rows)

    return _each(directory, set_id, layouts, max_bytes, attach)


def create_table(
    name: str, layout: EntityLayout | None, set_id: int, max_bytes: int, max_rows: int = _MAX_ROWS
) -> TableWriter:
    """An empty table of a set. `layout` None: without cells. OSError."""
    cells = () if layout is None else layout.cells
    fingerprint = DICTIONARY_FINGERPRINT if layout is None else layout.fingerprint
    table = TableWriter.create(
        name, cells, max_rows=max_rows, max_bytes=max_bytes, fingerprint=fingerprint, set_id=set_id
    )
    table.set_clean(False, boot_id())
    return table


def attach_table(
    name: str, layout: EntityLayout | None, set_id: int, max_bytes: int, max_rows: int = _MAX_ROWS
) -> TableWriter:
    """A table of a set that another process left. UnfitError."""
    cells = () if layout is None else layout.cells
    fingerprint = DICTIONARY_FINGERPRINT if layout is None else layout.fingerprint
    try:
        table = TableWriter.attach(name, cells, max_rows=max_rows, max_bytes=max_bytes, fingerprint=fingerprint)
    except NotATableError as error:
        raise UnfitError(f"{Path(name).name}: {error}") from error
    except OSError as error:
        raise UnfitError(f"{Path(name).name}: {error.strerror}") from error
    if table.set_id != set_id:
        table.close()
        raise UnfitError(f"{Path(name).name} belongs to another set")
    if not table.is_clean and table.boot != boot_id():
        table.close()
        raise UnfitError("the machine went down while they were in use")
    return table


def mark_in_use(tables: Sequence[TableWriter]) -> None:
    """Before tables that were taken up are written. UnfitError."""
    try:
        if any(table.is_clean for table in tables):
            for table in tables:
                table.set_clean(False, boot_id())
                # On the disk before anything else is: or a loss of power would leave a table that says it is whole.
                table.flush()
    except OSError as error:
        raise UnfitError(f"they cannot be written: {error.strerror}") from error


def map_tables(directory: Path, set_id: int, layouts: Layouts) -> TableSet[TableReader]:
    """The tables for reading, in another process. UnfitError if they are not those of `set_id` and the layouts."""

    def map_(name: str, layout: EntityLayout | None, max_rows: int, max_bytes: int) -> TableReader:
        try:
            table = TableReader(name)
        except (NotATableError, OSError) as error:
            raise UnfitError(f"{Path(name).name}: {error}") from error
        fingerprint = DICTIONARY_FINGERPRINT if layout is None else layout.fingerprint
        if table.set_id != set_id or table.fingerprint != fingerprint:
            table.close()
            raise UnfitError(f"{Path(name).name} belongs to another set, or another schema")
        return table

    return _each(directory, set_id, layouts, 0, map_)


def close_cleanly(tables: Sequence[TableWriter]) -> None:
    """Puts everything on the disk, says so in the tables and closes them. OSError; closed all the same."""
    boot = boot_id()
    try:
        for table in tables:
            table.flush()
        for table in tables:
            table.set_clean(True, boot)
            table.flush()
    finally:
        for table in tables:
            table.close()


def remove_other_sets(directory: Path, set_id: int) -> None:
    """Unlinks all sets but one; who has them open keeps them."""
    if not directory.is_dir():
        return
    keep = set_directory(directory, set_id)
    for path in directory.iterdir():
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)


def boot_id() -> bytes:
    """32 bytes: which boot of the machine this is."""
    try:
        text = _BOOT_ID.read_text()
    except OSError:  # without it, only an orderly end lets tables be taken up
        text = os.urandom(16).hex()
    return text.strip().replace("-", "").encode()[:32].ljust(32, b"\0")


@contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turns what the system says into StoreError."""
    try:
        yield
    except OSError as error:
        raise disk_error(directory, error) from error


def disk_error(directory: Path, error: OSError) -> StoreError:
    """What went wrong, and what to do."""
    advice = "; make room there" if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT) else ""
    return StoreError(f"{directory}: {error.strerror or error}; nothing was written{advice}")


_Open = Callable[[str, EntityLayout | None, int, int], AnyTable]


def _each(directory: Path, set_id: int, layouts: Layouts, max_bytes: int, open_: _Open[AnyTable]) -> TableSet[AnyTable]:
    """All tables of a set, or none of them."""
    own = set_directory(directory, set_id)
    tables: dict[str, AnyTable] = {}
    try:
        for name, layout in layouts.items():
            tables[name] = open_(str(own / f"entity-{name}"), layout, _MAX_ROWS, max_bytes)
        dictionary = open_(str(own / _DICTIONARY), None, MAX_CATEGORIES, MAX_CATEGORY_TABLE_BYTES)
    except BaseException:
        for table in tables.values():
            table.close()
        raise
    return TableSet(directory, set_id, tables, dictionary)
