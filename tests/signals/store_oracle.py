"""A store in plain dictionaries, a value at a time, by the words of signals.store: what stores are tested against."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from rankd.signals.store import ColumnValues, MapValues, Operation, StoredRows, Values, WriteBatch
from rankd.types.schema import Schema, Signal, SignalKind
from rankd.types.text import composite_parts, normalise


@dataclass
class Row:
    """`values`: by signal, time and value (None: cleared)."""

    latest_ms: int
    values: dict[str, tuple[int, Any]] = field(default_factory=dict)


@dataclass
class Oracle:
    """`rows` and `deleted_ms` by entity and id. `keeps_deletions`: see conformance.Traits."""

    schema: Schema
    keeps_deletions: bool = True
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    deleted_ms: dict[tuple[str, str], int] = field(default_factory=dict)
    write_ids: set[str] = field(default_factory=set)
    events: set[tuple[str, str, str]] = field(default_factory=set)

    def write(self, batch: WriteBatch, now_ms: int, rejected: Collection[int] = ()) -> tuple[int, list[int]]:
        """Late values, and rows repeated. `rejected`: rows that are not written."""
        if batch.write_id and batch.write_id in self.write_ids:
            return 0, [i for i in range(len(batch.ids)) if i not in rejected]
        self.write_ids |= {batch.write_id} - {""}
        repeated = []
        times: dict[int, int] = {}
        late = 0
        done: set[tuple[str, str, str]] = set()
        for i, id_ in enumerate(batch.ids):
            if i in rejected:
                continue
            event = batch.event_ids[i] if batch.event_ids is not None else ""
            if event and (batch.entity, id_, event) in self.events | done:
                repeated.append(i)
                continue
            if event:
                done.add((batch.entity, id_, event))
            times[i] = now_ms if batch.event_ms is None else int(batch.event_ms[i])
            self._touch(batch.entity, id_, times[i])
        for column in batch.columns:
            signal = self.schema.entities[batch.entity].signals[column.signal]
            latest: dict[str, tuple[int, Any]] = {}
            added: set[str] = set()
            for i in times:
                id_ = batch.ids[i]
                for at, value in _given(column, i):
                    time = times[i] if at is None else at
                    if column.operation is Operation.ADD:
                        # What was there before may have expired; what the batch itself adds has not.
                        as_of = None if id_ in added else now_ms
                        is_late = self._apply(batch.entity, id_, signal, time, value, column.operation, as_of)
                        late += is_late
                        added |= set() if is_late else {id_}
                    elif id_ in latest and latest[id_][0] > time:
                        late += 1
                    else:
                        latest[id_] = (time, value)
            for id_, (time, value) in latest.items():
                late += self._apply(batch.entity, id_, signal, time, value, column.operation, now_ms)
        self.events |= done
        forgotten = [] if self.keeps_deletions else [key for key in self.deleted_ms if key in self.rows]
        for key in forgotten:  # what it has not is cleared at that time
            deleted_ms = self.deleted_ms.pop(key)
            for name in self.schema.entities[batch.entity].signals:
                self.rows[key].values.setdefault(name, (deleted_ms, None))
        return late, repeated

    def _touch(self, entity: str, id_: str, time: int) -> bool:
        key = (entity, id_)
        if time < self.deleted_ms.get(key, time):
            return False
        row = self.rows.setdefault(key, Row(time))
        row.latest_ms = max(row.latest_ms, time)
        return True

    def _apply(
        self, entity: str, id_: str, signal: Signal, time: int, value: Any, operation: Operation, now_ms: int | None
    ) -> int:
        """1: too late. `now_ms`: by which what is there may have expired."""
        stored = self.rows.get((entity, id_), Row(time)).values.get(signal.name)
        if operation is Operation.SET and stored is not None and stored[0] > time:
            return 1
        if not self._touch(entity, id_, time):
            return 1
        values = self.rows[(entity, id_)].values
        if operation is Operation.ADD:
            latest = time if stored is None else max(time, stored[0])
            values[signal.name] = (latest, _added(signal, _living(signal, stored, now_ms), time, value, latest))
        else:
            values[signal.name] = (time, value)
        return 0

    def delete(self, entity: str, ids: list[str], now_ms: int) -> int:
        """How many there were."""
        count = 0
        for id_ in dict.fromkeys(ids):
            count += self.rows.pop((entity, id_), None) is not None
            self.deleted_ms[(entity, id_)] = max(now_ms, self.deleted_ms.get((entity, id_), now_ms))
        return count

    def forget(self, user_id: str, now_ms: int) -> dict[str, int]:
        """Rows deleted, by entity."""
        counts = {}
        for name, entity in self.schema.entities.items():
            ids = [id_ for of, id_ in self.rows if of == name and _is_of_user(entity.name, entity.key, id_, user_id)]
            count = self.delete(name, [user_id] if name == "user" else ids, now_ms)
            if count:
                counts[name] = count
        return counts

    def found(self, entity: str, now_ms: int) -> dict[str, Any]:
        """Rows as `plain_rows` gives them."""
        signals = self.schema.entities[entity].signals
        return {
            id_: (row.latest_ms, {n: of for n, of in row.values.items() if _living(signals[n], of, now_ms)})
            for (name, id_), row in self.rows.items()
            if name == entity
        }

    def read(self, entity: str, id_: str, name: str, now_ms: int) -> Any:
        """A value as expressions read it; None: missing."""
        signals = self.schema.entities[entity].signals
        signal, row = signals[name], self.rows.get((entity, id_), Row(0))
        if signal.kind is SignalKind.RATIO:
            assert signal.ratio_of is not None
            over, under = (self.read(entity, id_, of, now_ms) or 0.0 for of in signal.ratio_of)
            mean, weight = (signal.prior.mean, signal.prior.weight) if signal.prior else (0.0, 0.0)
            return (over + mean * weight) / (under + weight) if under + weight else None
        stored = _living(signal, row.values.get(name), now_ms)
        return signal.default if stored is None else _reading(signal, *stored, now_ms)


def _is_of_user(entity: str, key: tuple[str, ...], id_: str, user_id: str) -> bool:
    if entity == "user":
        return id_ == user_id
    parts = composite_parts(id_, len(key)) if "user" in key else None
    return parts is not None and parts[key.index("user")] == user_id


def _living(signal: Signal, stored: tuple[int, Any] | None, now_ms: int | None) -> tuple[int, Any] | None:
    """A value that is there and has not outlived its TTL."""
    if stored is None or stored[1] is None:
        return None
    is_expired = signal.ttl_s is not None and now_ms is not None and now_ms - stored[0] >= signal.ttl_s * 1000
    return None if is_expired else stored


def _reading(signal: Signal, time: int, value: Any, now_ms: int) -> Any:
    # As of a time before the value's nothing has decayed yet.
    elapsed_s = max(0, now_ms - time) / 1000
    factor = 1.0 if signal.half_life_s is None else 2.0 ** (-elapsed_s / signal.half_life_s)
    match signal.kind:
        case SignalKind.I64 | SignalKind.BOOL:
            return float(value)
        case SignalKind.TIMESTAMP:
            return value / 1000
        case SignalKind.STRING:
            return normalise(value)
        case SignalKind.SET:
            return set(value)
        case SignalKind.LIST:
            return {member for member, _ in value}
        case SignalKind.COUNTER:
            return value * factor
        case SignalKind.MAP:
            return {key: number * factor for key, number in value.items()}
        case SignalKind.WINDOW:
            assert signal.bucket_s is not None and signal.window_s is not None
            newest = now_ms // round(signal.bucket_s * 1000)
            oldest = newest - round(signal.window_s / signal.bucket_s)
            return float(sum(count for bucket, count in value.items() if oldest < bucket <= newest))
    return value


def _given(column: ColumnValues, row: int) -> list[tuple[int | None, Any]]:
    """What a column says of a row: (time, value), None: cleared."""
    for at, i in enumerate(column.rows.tolist()):
        if i == row:
            value = plain(column.values)[at]
            time = None if column.times_ms is None else int(column.times_ms[at])
            return [(time, None if isinstance(value, float) and math.isnan(value) else value)]
    return [(None, None)] if row in column.clear_rows.tolist() else []


def _added(signal: Signal, stored: tuple[int, Any] | None, time: int, value: Any, latest: int) -> Any:
    old_time, old = (time, None) if stored is None else stored

    def decayed(amount: float, then: int) -> float:
        if signal.half_life_s is None:
            return float(amount)
        return float(amount) * 2.0 ** (-(latest - then) / (signal.half_life_s * 1000))

    if signal.kind is SignalKind.COUNTER:
        return (decayed(old, old_time) if old is not None else 0.0) + decayed(value, time)
    if signal.kind is SignalKind.MAP:
        sums = {key: decayed(v, old_time) for key, v in (old or {}).items()}
        for key, v in value.items():
            sums[key] = sums.get(key, 0.0) + decayed(v, time)
        return {key: float(np.float32(v)) for key, v in sums.items()}
    if signal.kind is SignalKind.WINDOW:
        assert signal.bucket_s is not None and signal.window_s is not None
        length = round(signal.bucket_s * 1000)
        buckets = dict(old or {})
        buckets[time // length] = float(np.float32(buckets.get(time // length, 0.0) + value))
        newest = max(latest // length, *buckets)
        return {b: c for b, c in sorted(buckets.items()) if b > newest - round(signal.window_s / signal.bucket_s)}
    members = [(m, t) for m, t in (old or []) if m != value]
    before = dict(old or []).get(value)
    when = time if before is None else max(time, before)
    at = next((i for i, (_, t) in enumerate(members) if t <= when), len(members))
    if before is not None and before > time:  # it stays where it was
        return old
    members.insert(at, (value, when))
    return members[: signal.dimension]


def plain(values: Values) -> list[Any]:
    """One plain value per row."""
    if isinstance(values, np.ndarray):
        return [row.tolist() for row in values] if values.ndim == 2 else values.tolist()
    if not hasattr(values, "lengths"):
        return list(values)  # type: ignore[arg-type]
    ends = np.cumsum(values.lengths).tolist()
    ranges = [slice(end - n, end) for end, n in zip(ends, values.lengths.tolist(), strict=True)]
    if isinstance(values, MapValues):
        return [dict(zip(values.keys[r], values.values[r].tolist(), strict=True)) for r in ranges]
    if hasattr(values, "buckets"):
        return [dict(zip(values.buckets[r].tolist(), values.counts[r].tolist(), strict=True)) for r in ranges]
    if hasattr(values, "times_ms"):
        return [list(zip(values.members[r], values.times_ms[r].tolist(), strict=True)) for r in ranges]
    return [sorted(values.members[r]) for r in ranges]


def plain_rows(ids: list[str], stored: StoredRows) -> dict[str, Any]:
    """{id: (latest_ms, {signal: (time, value)})} of what a store gives."""
    found = [ids[i] for i in stored.found.tolist()]
    rows: dict[str, Any] = {id_: (int(ms), {}) for id_, ms in zip(found, stored.written_ms.tolist(), strict=True)}
    for column in stored.columns:
        assert column.times_ms is not None
        for i, time, value in zip(column.rows.tolist(), column.times_ms.tolist(), plain(column.values), strict=True):
            rows[found[i]][1][column.signal] = (time, value)
    return rows


def nearly(got: Any, expected: Any) -> bool:
    """Equal, numbers nearly."""
    if isinstance(expected, float):
        return bool(got == pytest.approx(expected, rel=1e-5, abs=1e-12))
    if isinstance(expected, dict):
        return list(got) == list(expected) and all(nearly(got[k], expected[k]) for k in expected)
    if isinstance(expected, list | tuple):
        return len(got) == len(expected) and all(map(nearly, got, expected))
    return bool(got == expected)


def ordered(rows: dict[str, Any]) -> dict[str, Any]:
    """Rows in one order, and so are their signals and maps."""
    inner = {
        id_: (ms, {n: (t, dict(sorted(v.items())) if isinstance(v, dict) else v) for n, (t, v) in sorted(of.items())})
        for id_, (ms, of) in rows.items()
    }
    return dict(sorted(inner.items()))
