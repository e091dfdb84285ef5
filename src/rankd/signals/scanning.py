"""Whole entities read from mapped tables: pages of rows, samples of them, and everything kept under a user's id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from rankd.errors import Reason, RequestError
from rankd.kernels.table import CellRead, Table
from rankd.signals.mapped import MappedTables
from rankd.signals.store import EntityStatistics, ScanPage, SignalStatistics, StoredRows
from rankd.signals.values import I64_MISSING
from rankd.types.schema import Entity, Schema
from rankd.types.text import composite_parts

USER: Final = "user"
"""The entity whose ids, and the part of composite ids, that `forget` looks for."""

SAMPLE_ROWS: Final = 20_000
"""Of an entity, for its statistics."""

_PAGE_IDS: Final = 2_000


def scan(tables: MappedTables, entity: str, signals: Sequence[str], cursor: str, most: int, now_s: float) -> ScanPage:
    """See SignalStore.scan."""
    place, generation = _place(cursor, tables.set_id)
    ids, place, generation = tables.tables[entity].ids(place, most, generation)
    rows = tables.get(entity, ids, signals, now_s)
    if len(rows.found) < len(ids):  # some were deleted in between
        ids = [ids[i] for i in rows.found.tolist()]
        rows = StoredRows(np.arange(len(ids)), rows.columns, rows.written_ms)
    following = f"{tables.set_id:x}.{generation:x}.{place:x}" if place else ""
    return ScanPage(ids, rows, following)


def _place(cursor: str, set_id: int) -> tuple[int, int]:
    """Place and generation, as Table.ids takes them; those of other tables are the beginning."""
    if not cursor:
        return 0, 0
    try:
        cursor_set, generation, place = (int(part, 16) for part in cursor.split("."))
        if max(cursor_set, generation, place) >= 2**64 or min(cursor_set, generation, place) < 0:
            raise ValueError
    except ValueError:
        raise RequestError.one(
            Reason.BAD_PAGE_TOKEN, "cursor", "a cursor that a scan gave", f'"{cursor[:64]}"'
        ) from None
    return (place, generation) if cursor_set == set_id else (0, 0)


def all_ids(table: Table) -> Iterator[list[str]]:
    """Pages of ids. A row that is there all the time comes at least once."""
    place, generation = 0, 0
    while True:
        ids, place, generation = table.ids(place, _PAGE_IDS, generation)
        if ids:
            yield ids
        if not place:
            return


def ids_of_user(entity: Entity, table: Table, user_id: str) -> list[str]:
    """Ids of rows that are kept under a user's id. The user's own is one even if it has no row: what comes late of it
    must not make one."""
    if entity.name == USER:
        return [user_id]
    if USER not in entity.key:
        return []
    at, count = entity.key.index(USER), len(entity.key)
    found: dict[str, None] = {}
    for ids in all_ids(table):
        for id_ in ids:
            if user_id in id_:
                parts = composite_parts(id_, count)
                if parts is not None and parts[at] == user_id:
                    found[id_] = None
    return list(found)


def statistics(tables: MappedTables, schema: Schema, now_s: float) -> dict[str, EntityStatistics]:
    """See SignalStore.statistics. Takes long; safe in any thread."""
    return {name: _entity_statistics(tables, entity, now_s) for name, entity in schema.entities.items()}


def _entity_statistics(tables: MappedTables, entity: Entity, now_s: float) -> EntityStatistics:
    table = tables.tables[entity.name]
    names = [signal.name for signal in entity.signals.values() if signal.is_stored]
    cells = tables.columns(entity.name, names)
    reading = table.reading([CellRead(cell.cell, "time") for cell in cells])
    now_ms = round(now_s * 1000)
    ages: list[list[NDArray[np.int64]]] = [[] for _ in cells]
    sampled = 0
    for ids in _sample(table):
        rows = reading.read(ids, now_ms)
        sampled += int(np.count_nonzero(rows.found))
        for cell, of_signal, times in zip(cells, ages, rows.columns, strict=True):
            written_ms = cast(NDArray[np.int64], times)
            age_ms = now_ms - written_ms[written_ms != I64_MISSING]
            of_signal.append(age_ms[age_ms < cell.ttl_ms] if cell.ttl_ms else age_ms)
    count = len(table)
    scale = count / sampled if sampled else 0.0
    signals = {
        name: _signal_statistics(np.concatenate([np.empty(0, np.int64), *of_signal]), scale)
        for name, of_signal in zip(names, ages, strict=True)
    }
    return EntityStatistics(count, table.used_bytes, signals)


def _signal_statistics(ages_ms: NDArray[np.int64], scale: float) -> SignalStatistics:
    if not len(ages_ms):
        return SignalStatistics(0, float("nan"), float("nan"))
    ages_s = ages_ms / 1000
    return SignalStatistics(round(len(ages_ms) * scale), float(np.median(ages_s)), float(ages_s.max()))


def _sample(table: Table) -> Iterator[list[str]]:
    """Pages of ids, SAMPLE_ROWS of them or all. Ids lie in the index in the order of their hash: the first are as good
    a sample as any."""
    taken = 0
    for ids in all_ids(table):
        yield ids
        taken += len(ids)
        if taken >= SAMPLE_ROWS:
            return
