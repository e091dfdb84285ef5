"""Rows that were fetched, in a table of this process from which compiled code reads as from any other.

A row is good for the TTL, and as long as nobody on this machine has written it (see slots). What is not good any more
stays until it is replaced: it is what is served when Redis does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import numpy as np

from rankd.kernels.table import TableFullError
from rankd.kernels.table_writer import TableWriter
from rankd.signals.categories import CategoryTable, Codes
from rankd.signals.layout import EntityLayout
from rankd.signals.redis.codec import RowCodec, RowStates, Status
from rankd.signals.redis.staging import stage

_NEVER: Final = -1e30


class Entry:
    """What is known of an id. `asked_s`: when the row was asked for (the loop's clock). `slot_value`: what its slot was
    then. `trip`: the number of the trip that brought it. `pins`: requests that are using it."""

    __slots__ = ("asked_s", "pins", "slot_value", "trip")

    def __init__(self) -> None:
        self.asked_s = _NEVER
        self.slot_value = -1
        self.trip = -1
        self.pins = 0


class UnknownTextsError(Exception):
    """Some texts have no code yet."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__(f"{len(texts)} texts have no code")
        self.texts = texts


class KnownTexts:
    """The codes of texts that have one. To give codes may have to wait for another process: that is for the caller."""

    def __init__(self, categories: CategoryTable) -> None:
        self._categories = categories

    def intern_all(self, texts: Sequence[str]) -> Codes:
        """UnknownTextsError if one has none."""
        if unknown := self._categories.unknown(texts):
            raise UnknownTextsError(unknown)
        return self._categories.intern_all(texts)


class Lease:
    """Holds rows in the caches as long as it lives."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def pin(self, entry: Entry) -> None:
        entry.pins += 1
        self.entries.append(entry)

    # Whoever holds the lease lets go of it, or is cancelled, or fails: in each case it is freed at once.
    def __del__(self) -> None:
        for entry in self.entries:
            entry.pins -= 1


class RowCache:
    """The rows of one entity. Belongs to one event loop; the table may be read from any thread."""

    def __init__(
        self, layout: EntityLayout, codec: RowCodec, table: TableWriter, categories: CategoryTable, most: int
    ) -> None:
        """`most`: rows kept; those in use are not counted."""
        self.layout = layout
        self.table = table
        self.older: dict[int, RowCodec] = {}
        self._codec = codec
        self._known = cast(CategoryTable, KnownTexts(categories))
        self._most = most
        self.entries: dict[str, Entry] = {}  # oldest first

    def entry(self, id_: str) -> Entry:
        """Of an id about to be asked for: it becomes the newest."""
        entry = self.entries.pop(id_, None) or Entry()
        self.entries[id_] = entry
        return entry

    def unpack(self, ids: Sequence[str], values: Sequence[bytes | None]) -> RowStates:
        """What Redis answered. Any bytes will do."""
        return self._codec.unpack(values, ids, self.older)

    def publish(self, rows: RowStates, trip: int) -> bool:
        """Puts rows into the table, unless a later trip has brought them; False: some cannot be used (they are not what
        was asked for, or damaged, or there is no room) and stay as they were. UnknownTextsError: nothing was done."""
        newest = [(entry := self.entries.get(id_)) is not None and entry.trip <= trip for id_ in rows.ids]
        live = rows.where(Status.LIVE)
        live = live[[newest[i] for i in live.tolist()]] if not all(newest) else live
        is_whole = not bool(np.any(rows.status >= Status.WRONG_ID))
        if len(live):
            is_whole = self._publish(rows.take(live) if len(live) < len(rows) else rows) and is_whole
        gone = [
            id_
            for id_, is_newest, status in zip(rows.ids, newest, rows.status.tolist(), strict=True)
            if is_newest and status in (Status.MISSING, Status.TOMBSTONE)
        ]
        if gone:
            self.table.delete(gone)
        for id_, is_newest, status in zip(rows.ids, newest, rows.status.tolist(), strict=True):
            if is_newest and status < Status.WRONG_ID:
                self.entries[id_].trip = trip
        self._evict()
        return is_whole

    def _publish(self, rows: RowStates) -> bool:
        try:
            stage(self.table, self.layout, rows, self._known).publish()
        except (TableFullError, OSError, MemoryError):
            return False
        return True

    def _evict(self) -> None:
        """Drops the oldest beyond the bound, but none in use."""
        over = len(self.entries) - self._most
        if over <= 0:
            return
        dropped = []
        for id_, entry in self.entries.items():
            if not entry.pins:
                dropped.append(id_)
                if len(dropped) == over:
                    break
        for id_ in dropped:
            del self.entries[id_]
        self.table.delete(dropped)
