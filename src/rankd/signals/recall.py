"""What a store has heard of lately: write ids, event ids, deleted rows. Bounded in time and in number.

A digest (72 bits of BLAKE2b) and a time for each, in two mapped tables that take turns: when the newer is as old as
things are remembered, or holds half of as many as may be, the older goes. So each is remembered for `keep_ms` at least,
unless more than half of `most` came after it. Files: DIRECTORY/NAME-BEGUN, BEGUN in hexadecimal, ms.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.table_writer import StagedRows, TableWriter
from rankd.signals.scanning import all_ids
from rankd.signals.tableset import attach_table, create_table

DIGEST_CHARS: Final = 12

_DIGEST_BYTES: Final = 9
_MAX_BYTES_PER_ROW: Final = 128
_LEAST_ROWS: Final = 1_000
_NEVER_MS: Final = int(np.iinfo(np.int64).min)

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Remembering:
    """How long, and how many at most."""

    keep_ms: int
    most: int


def digest(*parts: str) -> str:
    """Of texts that UTF-8 can encode: different ones give different digests, for all that can happen."""
    encoded = [part.encode() for part in parts]
    text = b"".join(b"%d:%b" % (len(part), part) for part in encoded)
    return base64.b64encode(hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()).decode()


class Recall:
    """Used by the writer's thread alone, but for `pages`."""

    def __init__(self, directory: Path, name: str, set_id: int, bounds: Remembering, tables: list[TableWriter]) -> None:
        """Use `create` or `attach`. `tables`: the older one, if there is one, and the newer."""
        self._directory, self._name, self._set_id = directory, name, set_id
        self._bounds = bounds
        self._tables = tables
        self._begun_ms = 0
        self._coming: dict[str, int] = {}
        self._retired: list[TableWriter] = []
        self._readers = 0
        self._attached_ms = None if any(len(table) for table in tables) else _NEVER_MS
        self._staged_ms = _NEVER_MS

    @classmethod
    def create(cls, directory: Path, name: str, set_id: int, bounds: Remembering) -> Recall:
        """Empty, in the directory of a set of tables. OSError."""
        recall = cls(directory, name, set_id, bounds, [])
        recall._tables.append(recall._new(0))
        return recall

    @classmethod
    def attach(cls, directory: Path, name: str, set_id: int, bounds: Remembering) -> Recall:
        """What another process left. UnfitError."""
        paths = sorted(directory.glob(f"{name}-*.rows"))
        tables: list[TableWriter] = []
        recall = cls(directory, name, set_id, bounds, tables)
        try:
            for path in paths[-2:]:
                tables.append(attach_table(str(path.with_suffix("")), None, set_id, recall._max_bytes))
                recall._begun_ms = int(path.stem.rpartition("-")[2], 16)
            if not tables:
                tables.append(recall._new(0))
        except BaseException:
            recall.close()
            raise
        return cls(directory, name, set_id, bounds, tables)._since(recall._begun_ms)

    def _since(self, begun_ms: int) -> Recall:
        self._begun_ms = begun_ms
        return self

    @property
    def latest_ms(self) -> int:
        """No time that is remembered is later. The first call after `attach` reads everything."""
        if self._attached_ms is None:
            self._attached_ms = max((int(times.max()) for _, times in self.pages() if len(times)), default=_NEVER_MS)
        return max(self._attached_ms, self._staged_ms)

    @property
    def tables(self) -> Sequence[TableWriter]:
        """To be put on the disk and closed with the others of their set."""
        return self._tables

    @property
    def _max_rows(self) -> int:
        return max(self._bounds.most // 2, _LEAST_ROWS)

    @property
    def _max_bytes(self) -> int:
        return (1 << 22) + 4 * self._max_rows * _MAX_BYTES_PER_ROW

    def _new(self, begun_ms: int) -> TableWriter:
        self._begun_ms = begun_ms
        path = str(self._directory / f"{self._name}-{begun_ms:012x}")
        return create_table(path, None, self._set_id, self._max_bytes)

    def start_group(self, now_ms: int) -> None:
        """What was staged is published, or dropped. The older table goes if it is time. OSError."""
        self._coming.clear()
        if self._retired and not self._readers:
            for old in self._retired:
                old.close()
            self._retired.clear()
        table = self._tables[-1]
        if not len(table):
            return
        if not self._begun_ms:
            self._begun_ms = now_ms
        if now_ms - self._begun_ms >= self._bounds.keep_ms or len(table) >= self._max_rows:
            begun_ms = max(now_ms, self._begun_ms + 1)
            self._tables.append(self._new(begun_ms))
            self._retired += self._tables[:-2]
            del self._tables[:-2]
            kept = sorted(self._directory.glob(f"{self._name}-*.rows"))[:-2]
            for path in kept:
                for file in self._directory.glob(f"{path.stem}.*"):
                    file.unlink(missing_ok=True)

    def times(self, digests: Sequence[str], now_ms: int) -> Times:
        """When each was heard of last, the group that is being planned included; the least int64: not lately."""
        never = _NEVER_MS
        times = np.full(len(digests), never)
        for table in self._tables:
            if len(table):
                rows = table.reading(()).read(digests, 0)
                times = np.maximum(times, np.where(rows.found, rows.written_ms, never))
        times[now_ms - self._bounds.keep_ms >= times] = never
        for i, text in enumerate(digests) if self._coming else ():
            times[i] = max(times[i], self._coming.get(text, never))
        return times

    def stage(self, digests: Sequence[str], times_ms: Times | int) -> StagedRows:
        """Holds room for distinct digests. As TableWriter.stage."""
        latest = int(np.max(times_ms)) if len(digests) else _NEVER_MS
        staged = self._tables[-1].stage(digests, (), times_ms)
        self._staged_ms = max(self._staged_ms, latest)
        self._coming |= dict.fromkeys(digests, latest)
        return staged

    def pages(self) -> Iterator[tuple[list[str], Times]]:
        """Everything, in no order. Safe in any thread while the tables are open."""
        self._readers += 1
        try:
            for table in tuple(self._tables):
                reading = table.reading(())
                for digests in all_ids(table):
                    rows = reading.read(digests, 0)
                    there = np.flatnonzero(rows.found)
                    yield [digests[i] for i in there.tolist()], rows.written_ms[there]
        finally:
            self._readers -= 1

    def close(self) -> None:
        for table in (*self._tables, *self._retired):
            table.close()
