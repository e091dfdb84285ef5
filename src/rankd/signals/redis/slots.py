"""Invalidation: how a write through one process of a machine makes the others forget what they have cached.

A small file that all processes map: 65,536 counters of 32 bits. Whoever writes a row counts the row's slot up before
the write is acknowledged; a cached row is good only while its slot is as it was before the row was asked for. Two
rows that share a slot cost a fetch more, never a stale value.
"""

from __future__ import annotations

import mmap
import os
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from rankd.errors import StoreError

NAME: Final = "invalidation"
"""In the directory of a set of tables."""

_COUNT: Final = 65_536
_COUNTER_BYTES: Final = 4 * _COUNT
_TOLD: Final = 2
"""Words of 64 bits after the counters: when the tables last had everything (ns of CLOCK_MONOTONIC, 0: never); whether
they follow; then the rows of each entity."""


class Slots:
    """The counters. One process counts up, any number read. A counter is one aligned word: it is read whole."""

    def __init__(self, path: Path, entities: Iterable[str], *, is_writer: bool) -> None:
        """`entities`: all of the schema, in its order. The writer makes the file if it is not there, or is of another
        schema. StoreError if it cannot be mapped."""
        self._entities = {name: _TOLD + place for place, name in enumerate(entities)}
        size = _COUNTER_BYTES + 8 * (_TOLD + len(self._entities))
        try:
            file = os.open(path, (os.O_RDWR | os.O_CREAT if is_writer else os.O_RDONLY) | os.O_CLOEXEC, 0o600)
            try:
                if is_writer:
                    os.ftruncate(file, size)
                    os.posix_fallocate(file, 0, size)
                elif os.fstat(file).st_size != size:
                    raise StoreError(f"{path}: expected {size} bytes, got {os.fstat(file).st_size}")
                access = mmap.ACCESS_WRITE if is_writer else mmap.ACCESS_READ
                self._map = mmap.mmap(file, size, access=access)
            finally:
                os.close(file)
        except OSError as error:
            raise StoreError(f"{path} cannot be mapped: {error.strerror}") from error
        self._view = memoryview(self._map)
        self.counters: memoryview[int] = self._view[:_COUNTER_BYTES].cast("I")
        """By slot; to be read."""
        self._told: memoryview[int] = self._view[_COUNTER_BYTES:].cast("q")
        self._seeds: dict[str, int] = {}
        if is_writer:
            self.tell(None, False)  # the file may be of a writer that is gone

    def slot(self, entity: str, id_: str) -> int:
        """Which counter is a row's."""
        seed = self._seeds.get(entity)
        if seed is None:
            seed = self._seeds[entity] = zlib.crc32(entity.encode() + b"\0")
        return zlib.crc32(id_.encode(), seed) & (_COUNT - 1)

    def bump(self, entity: str, ids: Iterable[str]) -> None:
        """Rows have changed, or may have."""
        counters = self.counters
        for slot in {self.slot(entity, id_) for id_ in ids}:
            counters[slot] = (counters[slot] + 1) & 0xFFFFFFFF

    def bump_all(self) -> None:
        """Any row may have changed."""
        every = np.frombuffer(self._map, np.uint32, _COUNT)
        every += 1
        del every  # or the map could not be closed

    def tell(self, in_step_s: float | None, is_following: bool) -> None:
        """The writer's: how its tables follow; `in_step_s`: of time.monotonic."""
        self._told[0] = 0 if in_step_s is None else max(1, round(in_step_s * 1e9))
        self._told[1] = is_following

    @property
    def following(self) -> tuple[bool, float]:
        """Whether the tables follow, and how many seconds they are behind at most."""
        in_step_ns = self._told[0]
        lag_s = float("inf") if not in_step_ns else max(0.0, time.monotonic() - in_step_ns / 1e9)
        return bool(self._told[1]), lag_s

    def tell_rows(self, counts: Mapping[str, int]) -> None:
        """The writer's: how many rows entities have in Redis."""
        for name, count in counts.items():
            self._told[self._entities[name]] = count

    @property
    def row_counts(self) -> dict[str, int]:
        """As they were last told."""
        return {name: self._told[place] for name, place in self._entities.items()}

    def close(self) -> None:
        """Unmaps."""
        self.counters.release()
        self._told.release()
        self._view.release()
        self._map.close()
