"""What a server has and what was built of a history, as the same plain Python: rows of signals with their times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rankd.client import Client
from rankd.events.batch.results import read_batches
from rankd.signals.values import to_list
from rankd.types.schema import Entity, Signal, SignalKind

Rows = dict[str, dict[str, tuple[Any, int]]]
"""By id and signal: value and time (ms since 1970). Windows: counts by when buckets begin, ms. Lists: members."""


def served_rows(address: str, entity: str, names: Iterable[str] = (), page: int = 5_000) -> Rows:
    """All rows of an entity that a server has."""
    found: Rows = {}
    with Client(address, timeout_s=60) as client:
        declared = client.describe_schema().schema.entities[entity].signals
        stored = [name for name in (list(names) or declared) if declared[name].is_stored]
        ids = [id_ for scanned in client.scan(entity, stored[:1]) for id_ in scanned.ids]
        for part in (ids[start : start + page] for start in range(0, len(ids), page)):
            rows = client.get_signals(entity, part, stored)
            for id_ in rows.ids:
                found[id_] = {}
            times = rows.value_times
            for name, column in rows.columns.items():
                for id_, value, at in zip(rows.ids, column, times.get(name) or [None] * len(rows), strict=True):
                    if value is not None:
                        assert at is not None
                        found[id_][name] = (_served(declared[name], value), at)
    return found


def built_rows(entity: Entity, path: Path) -> Rows:
    """All rows of a file of `rankd build-signals`."""
    found: Rows = {}
    for batch in read_batches(entity, path, batch_rows=777):
        for id_ in batch.ids:
            assert id_ not in found
            found[id_] = {}
        for column in batch.columns:
            signal = entity.signals[column.signal]
            assert column.times_ms is not None
            times = column.times_ms.tolist()
            for row, value, at in zip(column.rows.tolist(), to_list(column.values), times, strict=True):
                found[batch.ids[row]][signal.name] = (_built(signal, value), at)
    return found


def assert_near(found: Rows, expected: Rows, relative: float = 1e-5) -> None:
    """The same rows, signals and times; numbers up to `relative`, or 1e-6."""
    assert found.keys() == expected.keys()
    for id_, name, (value, at), (wanted, wanted_at) in _pairs(found, expected):
        where = f"{id_} {name}"
        assert at == wanted_at, where
        if isinstance(wanted, dict):
            assert value.keys() == wanted.keys(), where
            first = np.array([value[key] for key in wanted])
            assert np.allclose(first, np.array(list(wanted.values())), relative, 1e-6), (where, value, wanted)
        elif isinstance(wanted, float):
            assert np.isclose(value, wanted, relative, 1e-6), where
        else:
            assert value == wanted, where


def _pairs(found: Rows, expected: Rows) -> Iterator[tuple[str, str, tuple[Any, int], tuple[Any, int]]]:
    for id_, wanted in expected.items():
        assert found[id_].keys() == wanted.keys(), id_
        for name, value in wanted.items():
            yield id_, name, found[id_][name], value


def _served(signal: Signal, value: Any) -> Any:
    match signal.kind:
        case SignalKind.WINDOW:
            return {int(start.astype(np.int64)): count for start, count in value.items()}
        case SignalKind.LIST:
            return [member for member, _ in value]
        case SignalKind.TIMESTAMP:
            return int(value.astype(np.int64))
        case _:
            return value


def _built(signal: Signal, value: Any) -> Any:
    if signal.kind is SignalKind.WINDOW:
        assert signal.bucket_s is not None
        return {int(bucket) * round(signal.bucket_s * 1000): count for bucket, count in dict(value).items()}
    if signal.kind is SignalKind.LIST:
        return [member if isinstance(member, str) else member[0] for member in value]
    return dict(value) if signal.kind is SignalKind.MAP else value
