"""The end at every step: after each call to the system that changes files, the process is gone, or the power.

The end is an exception that every later call raises, too, so that nothing is tidied up. When the power goes, files lose
all that was not synced; their names stay.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from signals.conformance import SCHEMA, Clock, rows_batch, schema_of

from rankd.errors import StoreError
from rankd.signals import migration, upkeep
from rankd.signals.backing import TABLES_NAME
from rankd.signals.embedded import open_embedded
from rankd.signals.journal import Journal
from rankd.signals.manifest import snapshot_path
from rankd.signals.records import Delete, Upsert, unpack_upsert
from rankd.signals.snapshot import write_snapshot
from rankd.signals.values import to_list
from rankd.types.schema import Schema, Signal, SignalKind

_CALLS = [
    *((os, name) for name in ("open", "write", "writev", "fsync", "fdatasync", "ftruncate", "link")),
    *((Path, name) for name in ("rename", "replace", "unlink", "mkdir", "rmdir")),
]
_SYNCS = ("fsync", "fdatasync")


def _name_of(file: Path | int) -> str:
    return str(Path(f"/proc/self/fd/{file}").readlink()) if isinstance(file, int) else str(file)


class EndError(BaseException):
    """The process is gone."""


class Ends:
    """Counts calls that change files; the one after `most` is not made, and neither is any later."""

    def __init__(self, directory: Path, most: int) -> None:
        self.directory = directory
        self.most = most
        self.count = 0
        self.older = {path.stat().st_ino: path.stat().st_size for path in directory.iterdir()}
        self.synced: dict[int, int] = {}
        """How many bytes of a file (by inode) are on the disk."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Where it may end."""
        with pytest.MonkeyPatch.context() as patched:
            for owner, name in _CALLS:
                patched.setattr(owner, name, self._counted(name, getattr(owner, name)))
            yield

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR):
                return call(*arguments, **options)
            if name in ("open", "ftruncate") and "rankd.lock" in _name_of(arguments[0]):
                return call(*arguments, **options)  # let go of by the end itself
            if self.count >= self.most:
                raise EndError
            self.count += 1
            result = call(*arguments, **options)
            if name in _SYNCS:
                status = os.fstat(arguments[0])
                self.synced[status.st_ino] = status.st_size
            return result

        return counted

    def power_goes(self) -> None:
        """What was written and not synced is lost."""
        for path in self.directory.iterdir():
            if path.is_file() and path.name != "rankd.lock":
                status = path.stat()
                known = self.synced.get(status.st_ino, self.older.get(status.st_ino, 0))
                os.truncate(path, min(known, status.st_size))


def deletion(n: int) -> Delete:
    return Delete("item", [f"{n}"], n)


def run_journal(path: Path, acknowledged: list[int]) -> None:
    """Groups 1 to 5; two snapshots among them."""
    journal = Journal(path, SCHEMA)
    for n in range(1, 6):
        assert journal.commit([deletion(n)]) == n
        acknowledged.append(n)
        if n in (2, 4):
            number = journal.rotate()
            changes = [deletion(i) for i in range(1, number + 1)]
            write_snapshot(snapshot_path(path, number), journal.document, number, changes)
            journal.accept(number)
    journal.close()


def ids_in(path: Path) -> list[int]:
    journal = Journal(path, SCHEMA)
    try:
        return [int(c.ids[0]) for stored in journal.read() for c in stored.group.changes if isinstance(c, Delete)]
    finally:
        journal.close()


@pytest.mark.parametrize("has_power", [True, False])
def test_a_journal_that_ends_anywhere(tmp_path: Path, has_power: bool) -> None:
    most, is_whole = 0, False
    while not is_whole:
        path = tmp_path / f"{most}"
        path.mkdir()
        ends, acknowledged = Ends(path, most), []
        try:
            with ends.watching():
                run_journal(path, acknowledged)
            is_whole = True
        except EndError:
            pass
        if not has_power:
            ends.power_goes()
        count = len(acknowledged)
        found = ids_in(path)
        assert found in (acknowledged, [*acknowledged, count + 1]), most
        # And it goes on from there.
        journal = Journal(path, SCHEMA)
        assert journal.commit([deletion(99)]) == len(found) + 1
        journal.close()
        assert ids_in(path) == [*found, 99]
        shutil.rmtree(path)
        most += 1
    assert most > 40


OLD = schema_of(item=[Signal("price", SignalKind.F32)])
NEW = schema_of(item=[Signal("price", SignalKind.I64)])


def prices(path: Path, schema: Schema) -> list[float]:
    """Of a and b, as a store that opens would have them."""
    journal = Journal(path, schema)
    found: dict[str, float] = {}
    try:
        for stored in journal.read():
            for change in stored.group.changes:
                if isinstance(change, Upsert):
                    [column], _ = unpack_upsert(journal.schema.entities, change)
                    found |= zip(change.ids, to_list(column.values), strict=True)
    finally:
        journal.close()
    return [found[id_] for id_ in sorted(found)]


@pytest.mark.parametrize("has_power", [True, False])
@pytest.mark.parametrize("what", ["restore", "repair", "migrate"])
async def test_a_state_that_is_put_in_place(tmp_path: Path, what: str, has_power: bool) -> None:
    """The old one or the new one, whole; and another try does it."""
    (tmp_path / "first").mkdir()
    store = await open_embedded(OLD, tmp_path / "first", 1000, clock=Clock())
    await store.write(rows_batch("item", [("a", {"price": 1.0})], OLD))
    upkeep.create(tmp_path / "first", tmp_path / "copy")
    await store.write(rows_batch("item", [("b", {"price": 2.0})], OLD))
    await store.close()
    shutil.rmtree(tmp_path / "first" / TABLES_NAME)
    data = tmp_path / "data"

    def do() -> None:
        if what == "restore":
            upkeep.restore(data, tmp_path / "copy", replace_old=True)
        elif what == "repair":
            upkeep.repair(data)
        else:
            migration.migrate(data, NEW)

    done: list[float] = [1.0] if what == "restore" else [1.0, 2.0]
    most, is_whole = 0, False
    while not is_whole:
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(tmp_path / "first", data)
        ends = Ends(data, most)
        try:
            with ends.watching():
                do()
            is_whole = True
        except EndError:
            pass
        if not has_power:
            ends.power_goes()
        if what != "migrate":
            assert prices(data, OLD) in ([1.0, 2.0], done), most
            do()
            assert prices(data, OLD) == (done if what == "restore" else [1.0, 2.0])
        else:
            try:
                assert prices(data, OLD) == [1.0, 2.0]
            except StoreError:  # of a retyped signal: it is done
                assert prices(data, NEW) == done
            else:
                do()
                assert prices(data, NEW) == done
        most += 1
    assert most > 12
