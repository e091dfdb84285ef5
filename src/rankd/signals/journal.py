"""The durable side of the embedded store: SQLite, one table per entity.

What is committed is on disk: WAL mode with synchronous=FULL, so that a commit returns after
fsync. It survives kill -9 and loss of power, if the disk keeps its word.

    entities (number, name)
    signals  (number, entity, name, type)      numbers are never given twice
    rows_N   (row, id, data, written_ms)       data: see rankd.signals.packing
    mark     (number, set_id, touched)         one row: the last group, the tables that follow, what it touched

SQLite has no checksums of its own in the file: every row carries one, so that a byte that
rots is refused when rows are loaded, and not served.

Mapped tables follow the journal: a group of changes is committed, then published there. `mark` is written with
each group, so that a process killed in between leaves behind what is to be published again.

A signal or entity that is no longer declared stays on disk, unseen, and is there again when
it is declared again. Synchronous; used by one thread at a time.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rankd.errors import StoreError
from rankd.signals.packing import PackedRow, from_packed, open_row, seal_row, to_packed
from rankd.signals.store import ColumnValues
from rankd.signals.values import NO_ROWS
from rankd.types.schema import Entity, Schema, Signal

FILE_NAME = "signals.sqlite3"
APPLICATION_ID = 0x726E6B64  # "rnkd" in the SQLite header, so that file(1) and we can tell
FORMAT = 3  # 1 had no checksums, 2 no mark
_FORMAT_WITHOUT_MARK = 2
LOAD_ROWS = 5_000

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RowWrites:
    """A clean batch to be committed. `keys[i]` is the journal's key of `ids[i]`; `is_new[i]`: it has no row yet."""

    entity: str
    ids: Sequence[str]
    columns: Sequence[ColumnValues]
    written_ms: int
    keys: NDArray[np.int64]
    is_new: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RowDeletes:
    """Rows to be deleted. `keys[i]` is the key of `ids[i]`."""

    entity: str
    ids: Sequence[str]
    keys: NDArray[np.int64]


class Touched(msgspec.Struct, array_like=True):
    """What a group did to an entity: keys of rows written (int64, little endian), ids of rows deleted."""

    entity: str
    keys: bytes
    deleted_ids: list[str]


@dataclass(frozen=True, slots=True)
class Mark:
    """`number`: of the last group committed. `set_id`: of the tables that follow the journal, 0: none."""

    number: int
    set_id: int


_encode_touched = msgspec.msgpack.Encoder().encode
_decode_touched = msgspec.msgpack.Decoder(list[Touched]).decode


@dataclass(frozen=True, slots=True)
class LoadedRows:
    """Some rows as they were. `value_times_ms`: by signal, when each value of its column was written."""

    entity: str
    ids: list[str]
    columns: list[ColumnValues]
    value_times_ms: Mapping[str, NDArray[np.int64]]
    written_ms: NDArray[np.int64]
    keys: NDArray[np.int64]


class Journal:
    """All methods raise StoreError with the file's name when SQLite fails."""

    def __init__(self, directory: Path, schema: Schema, make_durable: Callable[[], None]) -> None:
        """Opens or creates the file. `make_durable` is called after creating it (to sync the directory)."""
        self._path = directory / FILE_NAME
        self._schema = schema
        self._tables: dict[str, int] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        self._retyped: dict[tuple[str, int], str] = {}
        try:
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path} cannot be opened: {error}") from error
        try:
            self._open(make_durable)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite may quote damaged text in its message
            self._db.close()
            raise StoreError(f"{self._path} is not a rankd signal file, or damaged, or unreadable: {error}") from error
        except BaseException:
            self._db.close()
            raise

    def _open(self, make_durable: Callable[[], None]) -> None:
        db = self._db
        is_empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        application_id = db.execute("PRAGMA application_id").fetchone()[0]
        format = db.execute("PRAGMA user_version").fetchone()[0]
        if not is_empty and application_id != APPLICATION_ID:
            raise StoreError(f"{self._path} is an SQLite file, but not one of rankd's")
        if not is_empty and format not in (FORMAT, _FORMAT_WITHOUT_MARK):
            raise StoreError(f"{self._path} is of format {format}; this rankd reads format {FORMAT}")
        if not is_empty:
            self._check("integrity_check(entities)", "integrity_check(signals)")
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreError(f"{self._path} cannot be put into WAL mode (the file system lacks what it needs): {mode}")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -16384")
        db.execute("PRAGMA journal_size_limit = 67108864")
        with _transaction(db):
            if is_empty:
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute("CREATE TABLE entities (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
                db.execute(
                    "CREATE TABLE signals (number INTEGER PRIMARY KEY AUTOINCREMENT, entity INTEGER NOT NULL,"
                    " name TEXT NOT NULL, type TEXT NOT NULL, UNIQUE (entity, name))"
                )
            if is_empty or format == _FORMAT_WITHOUT_MARK:
                db.execute(f"PRAGMA user_version = {FORMAT}")
                db.execute(
                    "CREATE TABLE mark (number INTEGER NOT NULL, set_id INTEGER NOT NULL, touched BLOB NOT NULL)"
                )
                db.execute("INSERT INTO mark VALUES (0, 0, ?)", (_encode_touched([]),))
            self._register()
        if is_empty:
            make_durable()

    def check(self) -> None:
        """StoreError if the file's tree of pages is damaged: rows could be gone, and no checksum would tell.
        Reads the whole file.

        The two small tables that say what is where are compared with their indices at every start: a name that
        has changed there would hide all values of a signal.
        """
        with self._failures("reading failed"):
            self._check("quick_check(1)")

    def _check(self, *checks: str) -> None:
        for check in checks:
            (verdict,) = self._db.execute(f"PRAGMA {check}").fetchone()
            if verdict != "ok":
                raise StoreError(f"{self._path} is damaged: {verdict}; restore it from a copy, or start without it")

    def _register(self) -> None:
        """Gives numbers to what is declared; notes what has another type than before."""
        db = self._db
        for entity in self._schema.entities.values():
            db.execute("INSERT OR IGNORE INTO entities (name) VALUES (?)", (entity.name,))
            (number,) = db.execute("SELECT number FROM entities WHERE name = ?", (entity.name,)).fetchone()
            db.execute(
                f"CREATE TABLE IF NOT EXISTS rows_{number} (row INTEGER PRIMARY KEY, id BLOB NOT NULL,"
                " data BLOB NOT NULL, written_ms INTEGER NOT NULL)"
            )
            self._tables[entity.name] = number
            known = {
                name: (signal, type_)
                for signal, name, type_ in db.execute(
                    "SELECT number, name, type FROM signals WHERE entity = ?", (number,)
                )
            }
            self._numbers[entity.name] = {
                signal.name: self._register_signal(entity, number, signal, known.pop(signal.name, None))
                for signal in entity.signals.values()
            }
            for name in known:
                _LOG.warning("%s.%s is no longer declared; its stored values are kept but not used", entity.name, name)
        for (name,) in db.execute("SELECT name FROM entities").fetchall():
            if name not in self._tables:
                _LOG.warning("entity %s is no longer declared; its stored rows are kept but not used", name)

    def _register_signal(self, entity: Entity, table: int, signal: Signal, known: tuple[int, str] | None) -> int:
        if known is None:
            cursor = self._db.execute(
                "INSERT INTO signals (entity, name, type) VALUES (?, ?, ?)", (table, signal.name, signal.type_name)
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid
        number, stored_type = known
        if stored_type != signal.type_name:
            self._retyped[entity.name, number] = stored_type
        return number

    def row_count(self, entity: str) -> int:
        """Rows stored."""
        with self._failures("reading failed"):
            return int(self._db.execute(f"SELECT count(*) FROM rows_{self._tables[entity]}").fetchone()[0])

    def next_key(self, entity: str) -> int:
        """The least key above all in use."""
        with self._failures("reading failed"):
            (most,) = self._db.execute(f"SELECT max(row) FROM rows_{self._tables[entity]}").fetchone()
        return 0 if most is None else int(most) + 1

    def mark(self) -> Mark:
        """How far it is."""
        with self._failures("reading failed"):
            number, set_id, _ = self._mark()
            return Mark(number, set_id)

    def _mark(self) -> tuple[int, int, bytes]:
        marks = self._db.execute("SELECT number, set_id, touched FROM mark").fetchall()
        if len(marks) != 1:
            raise StoreError(f"{self._path} is damaged: it has {len(marks)} marks; restore it from a copy")
        number, set_id, touched = marks[0]
        return number, set_id, touched

    def set_tables(self, set_id: int) -> None:
        """Says which tables follow from now on. They hold what is committed."""
        with self._failures("nothing was changed"), _transaction(self._db):
            self._db.execute("UPDATE mark SET set_id = ?", (set_id,))

    def load(self, entity: Entity) -> Iterator[LoadedRows]:
        """All rows of an entity, some at a time. StoreError if a value is damaged, or of another type than declared."""
        query = f"SELECT row, id, data, written_ms FROM rows_{self._tables[entity.name]} ORDER BY row"
        with self._failures("reading failed"):
            cursor = self._db.execute(query)
            while rows := cursor.fetchmany(LOAD_ROWS):
                yield self._unpack(entity, rows)

    def last_group(self) -> Sequence[tuple[LoadedRows, Sequence[str]]] | None:
        """What the last group left: rows that it wrote, as they are now, and ids that it deleted; None if it is of
        an entity that is no longer declared. StoreError."""
        with self._failures("reading failed"):
            try:
                group = _decode_touched(self._mark()[2])
            except (msgspec.DecodeError, TypeError) as error:
                raise StoreError(f"{self._path} is damaged: its mark does not read: {error}") from error
            if any(touched.entity not in self._schema.entities for touched in group):
                return None
            return [(self._rows(touched), touched.deleted_ids) for touched in group]

    def _rows(self, touched: Touched) -> LoadedRows:
        query = f"SELECT row, id, data, written_ms FROM rows_{self._tables[touched.entity]} WHERE row = ?"
        keys = np.frombuffer(touched.keys, "<i8").tolist()
        found = [self._db.execute(query, (key,)).fetchone() for key in keys]
        return self._unpack(self._schema.entities[touched.entity], [row for row in found if row is not None])

    def accept_types(self) -> None:
        """Records new types of signals of which `load` has shown that nothing is stored."""
        with self._failures("nothing was changed"), _transaction(self._db):
            for entity, number in self._retyped:
                signals = self._schema.entities[entity].signals
                name = next(name for name, n in self._numbers[entity].items() if n == number)
                self._db.execute("UPDATE signals SET type = ? WHERE number = ?", (signals[name].type_name, number))
        self._retyped.clear()

    def _unpack(self, declared: Entity, rows: Sequence[tuple[Any, ...]]) -> LoadedRows:
        entity = declared.name
        signal_of = {number: declared.signals[name] for name, number in self._numbers[entity].items()}
        positions: dict[int, list[int]] = {number: [] for number in signal_of}
        values: dict[int, list[Any]] = {number: [] for number in signal_of}
        times: dict[int, list[int]] = {number: [] for number in signal_of}
        try:
            for i, (_, id_, data, row_written_ms) in enumerate(rows):
                for number, (written_ms, value) in open_row(id_, data, row_written_ms).items():
                    if number in signal_of:
                        positions[number].append(i)
                        values[number].append(value)
                        times[number].append(written_ms)
            for number in signal_of:
                if values[number] and (entity, number) in self._retyped:
                    raise StoreError(self._retype_message(entity, signal_of[number], self._retyped[entity, number]))
            columns = [
                ColumnValues(
                    signal.name, np.array(positions[number], np.int64), from_packed(signal, values[number]), NO_ROWS
                )
                for number, signal in signal_of.items()
            ]
            return LoadedRows(
                entity,
                [bytes(id_).decode() for _, id_, _, _ in rows],
                columns,
                {signal.name: np.array(times[number], np.int64) for number, signal in signal_of.items()},
                np.array([written_ms for *_, written_ms in rows], np.int64),
                np.array([row for row, *_ in rows], np.int64),
            )
        except (msgspec.DecodeError, ValueError, TypeError, OverflowError) as error:
            raise StoreError(f"{self._path}: a stored row of {entity} is damaged: {error}") from error

    def _retype_message(self, entity: str, signal: Signal, stored_type: str) -> str:
        return (
            f"signal {entity}.{signal.name} is declared {signal.type_name}, but {self._path} holds "
            f"{stored_type} values of it; give the new signal another name, "
            f"or declare it {stored_type} and clear it first"
        )

    def commit(self, changes: Sequence[RowWrites | RowDeletes]) -> int:
        """All changes, in order, in one transaction; when it returns they are on disk. StoreError: none is.
        The group's number."""
        touched = []
        with self._failures("nothing was written"), _transaction(self._db):
            for change in changes:
                if isinstance(change, RowWrites):
                    self._write(change)
                    touched.append(Touched(change.entity, change.keys.astype("<i8").tobytes(), []))
                else:
                    self._db.executemany(
                        f"DELETE FROM rows_{self._tables[change.entity]} WHERE row = ?",
                        [(key,) for key in change.keys.tolist()],
                    )
                    touched.append(Touched(change.entity, b"", list(change.ids)))
            self._db.execute("UPDATE mark SET number = number + 1, touched = ?", (_encode_touched(touched),))
            (number,) = self._db.execute("SELECT number FROM mark").fetchone()
        return int(number)

    def _write(self, writes: RowWrites) -> None:
        table = f"rows_{self._tables[writes.entity]}"
        keys = writes.keys.tolist()
        rows: list[PackedRow] = [{} for _ in keys]
        for i in np.flatnonzero(~writes.is_new).tolist():
            found = self._db.execute(f"SELECT id, data, written_ms FROM {table} WHERE row = ?", (keys[i],)).fetchone()
            if found is None:
                raise StoreError(f"{self._path} was changed by somebody else: row {keys[i]} of {writes.entity} is gone")
            try:
                rows[i] = open_row(*found)
            except (msgspec.DecodeError, ValueError, TypeError) as error:
                raise StoreError(f"{self._path}: a stored row of {writes.entity} is damaged: {error}") from error
        numbers = self._numbers[writes.entity]
        for column in writes.columns:
            number = numbers[column.signal]
            for i, value in zip(column.rows.tolist(), to_packed(column.values), strict=True):
                rows[i][number] = (writes.written_ms, value)
            for i in column.clear_rows.tolist():
                rows[i].pop(number, None)
        self._db.executemany(
            f"INSERT INTO {table} (row, id, data, written_ms) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (row) DO UPDATE SET data = excluded.data, written_ms = excluded.written_ms",
            [
                (key, id_bytes := id_.encode(), seal_row(id_bytes, row, writes.written_ms), writes.written_ms)
                for key, id_, row in zip(keys, writes.ids, rows, strict=True)
            ],
        )

    def close(self) -> None:
        """Folds the WAL into the file and closes it."""
        with self._failures("closing failed"):
            self._db.close()

    def _failures(self, consequence: str) -> _Failures:
        return _Failures(self._path, consequence)


class _Failures:
    """Turns SQLite's errors into StoreError."""

    def __init__(self, path: Path, consequence: str) -> None:
        self._path, self._consequence = path, consequence

    def __enter__(self) -> None:
        pass

    def __exit__(self, type_: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error | UnicodeDecodeError):
            raise StoreError(f"{self._path}: {error}; {self._consequence}") from error


class _transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK if anything is raised, by COMMIT included."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, type_: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
