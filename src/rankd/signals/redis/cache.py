"""Rows that were fetched, in a table of this process from which compiled code reads as from any other.

A row is good for the TTL, and as long as nobody on this machine has written it (see slots). What is not good any more
stays until it is replaced: it is what is served when Redis does not answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from rankd.kernels.packed_table import PackedTarget
from rankd.kernels.table import Table, TableFullError
from rankd.kernels.table_writer import TableWriter
from rankd.signals.categories import CategoryTable, Codes
from rankd.signals.layout import EntityLayout
from rankd.signals.redis.codec import RowCodec, Status
from rankd.signals.redis.parts import cell_of
from rankd.signals.redis.staging import stage
from rankd.types.schema import Element, Signal, SignalKind

_NEVER: Final = -1e30

_INTO: Final = {
    SignalKind.F32: "f32",
    SignalKind.I64: "i64",
    SignalKind.TIMESTAMP: "i64",
    SignalKind.BOOL: "bool",
    SignalKind.CATEGORY: "code",
    SignalKind.STRING: "text",
    SignalKind.SET: "set",
    SignalKind.MAP: "map",
    SignalKind.COUNTER: "f64",
    SignalKind.WINDOW: "window",
    SignalKind.LIST: "set",
}
_VECTORS: Final = {Element.F32: "f32s", Element.F16: "f16s", Element.I8: "i8s"}


def _into(layout: EntityLayout, signal: Signal) -> tuple[str, int, int]:
    """Where a signal goes, as PackedTarget has it."""
    cell = layout.signals[signal.name].read
    if signal.kind is SignalKind.EMBEDDING:
        return _VECTORS[signal.element], cell, signal.dimension
    return _INTO[signal.kind], cell, 0


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


class OtherLayoutError(Exception):
    """Some rows were written under a schema of which this process does not know yet."""

    def __init__(self, entity: str, rows: Sequence[bytes | None]) -> None:
        super().__init__(f"rows of {entity} are of another layout")
        self.entity = entity
        self.rows = rows


class _KnownTexts:
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
        self,
        layout: EntityLayout,
        codec: RowCodec,
        table: TableWriter,
        dictionary: Table,
        categories: CategoryTable,
        most: int,
        older: Mapping[int, RowCodec],
    ) -> None:
        """`most`: rows kept; those in use are not counted. `older`: layouts known beside the codec's; it grows."""
        self.layout = layout
        self.table = table
        self._older = older
        self._codec = codec
        self._known = cast(CategoryTable, _KnownTexts(categories))
        self._target = PackedTarget(
            [cell_of(signal) for signal in codec.signals],
            codec.fingerprint,
            [_into(layout, signal) for signal in codec.signals],
            table,
            dictionary,
        )
        self._most = most
        self.entries: dict[str, Entry] = {}  # oldest first

    def entry(self, id_: str) -> Entry:
        """Of an id about to be asked for: it becomes the newest."""
        entry = self.entries.pop(id_, None) or Entry()
        self.entries[id_] = entry
        return entry

    def publish(self, ids: Sequence[str], values: Sequence[bytes | None], trip: int) -> bool:
        """Puts what Redis answered into the table, unless a later trip has brought it; any bytes will do. False: some
        cannot be used (they are of another row, or damaged, or there is no room) and stay as they were.
        UnknownTextsError: nothing was done. OtherLayoutError: some are of a layout that is not known; the
        others were put."""
        entries = self.entries
        newest = [i for i, id_ in enumerate(ids) if (entry := entries.get(id_)) is not None and entry.trip <= trip]
        if len(newest) < len(ids):
            ids, values = [ids[i] for i in newest], [values[i] for i in newest]
        status: Sequence[int]
        try:
            put = self._target.put(ids, values)
            if put.unknown:
                raise UnknownTextsError(put.unknown)
            status = put.status
            if put.is_other or (self._older and Status.OTHER_LAYOUT in status):
                status = self._publish_slowly(ids, values)
        except (TableFullError, OSError, MemoryError):
            return False
        worst = 0
        for id_, one in zip(ids, status, strict=True):
            if one < Status.WRONG_ID:
                entries[id_].trip = trip
                if one != Status.LIVE:
                    self.table.delete((id_,))
            elif one > worst:
                worst = one
        if len(entries) > self._most:
            self._evict()
        if worst == Status.OTHER_LAYOUT:
            raise OtherLayoutError(self.layout.entity.name, values)
        return not worst

    def _publish_slowly(self, ids: Sequence[str], values: Sequence[bytes | None]) -> list[int]:
        """The same for rows that compiled code cannot put."""
        rows = self._codec.unpack(values, ids, self._older)
        live = rows.where(Status.LIVE)
        if len(live):
            stage(self.table, self.layout, rows.take(live), self._known).publish()
        status: list[int] = rows.status.tolist()
        return status

    def _evict(self) -> None:
        """Drops the oldest beyond the bound, but none in use."""
        over, dropped = len(self.entries) - self._most, []
        for id_, entry in self.entries.items():
            if not entry.pins:
                dropped.append(id_)
                if len(dropped) == over:
                    break
        for id_ in dropped:
            del self.entries[id_]
        self.table.delete(dropped)
