"""From the schema that stored values are of to the declared one: what differs, how many values it is about, what
becomes of them, and doing it.

A migration rewrites every record of the state, values of retyped signals converted one by one, into a new snapshot that
the manifest, replaced last, puts in force. See rankd.signals.upkeep.install.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rankd.errors import StoreError
from rankd.limits import HARD_REQUEST_LIMITS
from rankd.signals.backing import Backing, Bounds, open_transient
from rankd.signals.conversion import Convert, conversion
from rankd.signals.declared import Difference, Document, differences, document_of, with_kept
from rankd.signals.directory import DataDirectory
from rankd.signals.packed import pack_column, unpack_column
from rankd.signals.records import Change, Delete, Group, Told, Upsert
from rankd.signals.scanning import all_ids
from rankd.signals.statefiles import Stored
from rankd.signals.store import ColumnValues
from rankd.signals.upkeep import Source, install
from rankd.signals.values import take
from rankd.types.schema import Entity, Schema, Signal

_BEFORE_ALL_S = -9e12
"""A now at which nothing has outlived its TTL."""


class Fate(enum.Enum):
    """What becomes of stored values."""

    ADDED = "added"
    KEPT = "kept"
    CONVERTED = "converted"
    DROPPED = "dropped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one difference. `stored`: values (of a whole entity: rows); None: not counted. `inexact`: of
    these, values that the new type does not have."""

    difference: Difference
    fate: Fate
    stored: int | None = 0
    inexact: int = 0

    @property
    def name(self) -> str:
        """Such as item.price, or item."""
        return self.difference.name

    @property
    def text(self) -> str:
        """A sentence for people."""
        name = self.name
        match self.fate:
            case Fate.ADDED:
                return "missing until it is written"
            case Fate.KEPT:
                return f"kept aside, unseen, until it is declared again; `--drop {name}` drops it"
            case Fate.DROPPED:
                return "dropped"
            case Fate.CONVERTED if not self.inexact:
                return "converted"
            case Fate.CONVERTED:
                return f"converted but for {self.inexact}, which become missing"
        if not self.inexact:
            return f"cannot be converted; `--drop {name}` drops what is stored"
        return (
            f"{self.inexact} of {self.stored} values cannot be converted exactly; `--accept-loss` makes these missing, "
            f"`--drop {name}` drops all"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a migration does. `backup`: where the old files are, once it is done."""

    steps: tuple[Step, ...]
    backup: Path | None = None

    @property
    def refused(self) -> list[Step]:
        """What keeps rankd from starting with this schema, and the migration from being done."""
        return [step for step in self.steps if step.fate is Fate.REFUSED]

    @property
    def changes_state(self) -> bool:
        """Whether there is anything to rewrite."""
        return any(step.fate in (Fate.CONVERTED, Fate.DROPPED) for step in self.steps)


def plan_of(
    found: Iterable[Difference], drops: Collection[str], counted: Callable[[Difference], tuple[int | None, int]],
    is_convertible: Callable[[Difference], bool], accept_loss: bool,
) -> Plan:  # fmt: skip
    """StoreError if `drops` names what is not in the differences, or is new."""
    steps = []
    left = set(drops)
    for difference in found:
        if difference.what == "added":
            steps.append(Step(difference, Fate.ADDED))
            continue
        stored, inexact = counted(difference)
        fate = Fate.KEPT
        if difference.name in left:
            left.discard(difference.name)
            fate, inexact = Fate.DROPPED, 0
        elif difference.what == "retyped":
            is_taken = is_convertible(difference) and (accept_loss or not inexact)
            fate = Fate.CONVERTED if is_taken else Fate.REFUSED
        steps.append(Step(difference, fate, stored, inexact))
    if left:
        raise StoreError(
            f"--drop {sorted(left)[0]}: nothing of that name is stored otherwise than declared; a signal that "
            "is declared as it is stored is dropped by taking it out of the schema first"
        )
    return Plan(tuple(steps))


def plan(directory: Path, schema: Schema, drops: Collection[str] = (), accept_loss: bool = False) -> Plan:
    """What `migrate` would do; the directory may be in use. StoreError for what cannot be read or is wrong."""
    with Source(directory) as source:
        return _plan(source, schema, drops, accept_loss)


def migrate(directory: Path, schema: Schema, drops: Collection[str] = (), accept_loss: bool = False) -> Plan:
    """Does it, and says what was done. StoreError, and nothing has changed: the directory is in use or damaged, the
    disk is full, or something is refused."""
    with contextlib.closing(DataDirectory(directory)), Source(directory) as source:
        made = _plan(source, schema, drops, accept_loss)
        if made.refused:
            raise StoreError("; ".join(f"{step.name}: {step.text}" for step in made.refused))
        if not made.changes_state:
            return made
        rewriting = _Rewriting(source.entities, schema, made.steps)
        changes = (change for stored in source.read() for change in rewriting.changes(stored))
        return replace(made, backup=install(directory, rewriting.document, changes, "migrate"))


def _plan(source: Source, schema: Schema, drops: Collection[str], accept_loss: bool) -> Plan:
    stored = source.entities
    found = differences(stored, schema)
    counts = _counts(source, schema, [d for d in found if d.what != "added"])

    def is_convertible(difference: Difference) -> bool:
        entity, signal = difference.entity, difference.signal
        return conversion(stored[entity].signals[signal], schema.entities[entity].signals[signal]) is not None

    return plan_of(found, drops, lambda difference: counts[difference.name], is_convertible, accept_loss)


# How many values there are


def _counts(source: Source, schema: Schema, found: Collection[Difference]) -> dict[str, tuple[int, int]]:
    """By name: how many are stored, and how many of them the new type does not have. The state is replayed, with
    nothing in it but the signals it is about."""
    if not found:
        return {}
    entities = {}
    for name in {difference.entity for difference in found}:
        old = source.entities[name]
        signals = {d.signal: old.signals[d.signal] for d in found if d.entity == name and d.signal}
        entities[name] = Entity(name, signals, old.key)
    some = Schema(entities)
    bounds = Bounds(2**31, HARD_REQUEST_LIMITS.max_bytes_per_entity)
    backing = open_transient(some, bounds)
    try:
        for stored in source.read():
            backing.apply(Group(list(_only(stored.group.changes, entities))))
        return {d.name: _counted(backing, d, some, schema) for d in found}
    finally:
        backing.close()


def _only(changes: Iterable[Change], entities: Mapping[str, Entity]) -> Iterator[Change]:
    """What is said of some signals of some entities, and which rows there are."""
    for change in changes:
        if isinstance(change, Told) or change.entity not in entities:
            continue
        if isinstance(change, Upsert):
            signals = entities[change.entity].signals
            columns = [column for column in change.columns if column.signal in signals]
            change = Upsert(change.entity, change.ids, columns, change.times)
        yield change


def _counted(backing: Backing, difference: Difference, old: Schema, new: Schema) -> tuple[int, int]:
    room = backing.rooms[difference.entity]
    if not difference.signal:
        return len(room.table), 0
    before = old.entities[difference.entity].signals[difference.signal]
    convert: Convert | None = None
    if difference.what == "retyped":
        convert = conversion(before, new.entities[difference.entity].signals[difference.signal])
    count = inexact = 0
    for ids in all_ids(room.table):
        [column] = room.rows.get(ids, [difference.signal], _BEFORE_ALL_S).columns
        count += len(column.rows)
        if convert is not None and len(column.rows):
            inexact += int(np.count_nonzero(~convert(column.values)[1]))
    return count, inexact


# Doing it


class _Rewriting:
    """`document`: the schema that the rewritten values are of."""

    def __init__(self, stored: Mapping[str, Entity], schema: Schema, steps: Iterable[Step]) -> None:
        self._stored = stored
        self._dropped = {step.name for step in steps if step.fate is Fate.DROPPED}
        self._converts: dict[tuple[str, str], tuple[Signal, Convert]] = {}
        for step in steps:
            if step.fate is Fate.CONVERTED:
                entity, name = step.difference.entity, step.difference.signal
                old, new = stored[entity].signals[name], schema.entities[entity].signals[name]
                convert = conversion(old, new)
                assert convert is not None
                self._converts[entity, name] = old, convert
        rest = {
            name: replace(
                entity, signals={n: s for n, s in entity.signals.items() if f"{name}.{n}" not in self._dropped}
            )
            for name, entity in stored.items()
            if name not in self._dropped
        }
        self.document: Document = document_of(with_kept(schema, rest).entities)

    def changes(self, stored: Stored) -> Iterator[Change]:
        """Of a group, as they are to be. StoreError for what does not fit the stored schema."""
        for change in stored.group.changes:
            if isinstance(change, Upsert | Delete) and change.entity in self._dropped:
                continue
            if isinstance(change, Upsert):
                try:
                    change = self._upsert(change)
                except (ValueError, KeyError) as error:
                    raise StoreError(f"{stored.path}: at byte {stored.start} values do not fit: {error}") from error
            yield change

    def _upsert(self, upsert: Upsert) -> Upsert:
        columns = []
        count = len(upsert.ids)
        for packed in upsert.columns:
            name = (upsert.entity, packed.signal)
            if ".".join(name) in self._dropped:
                continue
            if name in self._converts:
                column = unpack_column(self._stored[upsert.entity], packed, count)
                packed = pack_column(_converted(column, self._converts[name][1]), count)
            columns.append(packed)
        return Upsert(upsert.entity, upsert.ids, columns, upsert.times)


def _converted(column: ColumnValues, convert: Convert) -> ColumnValues:
    """Values that the new type does not have become clears, at their times."""
    values, good = convert(column.values)
    if bool(good.all()):
        return replace(column, values=values)
    bad = column.rows[~good]
    clear_rows = np.concatenate([column.clear_rows, bad])
    order = np.argsort(clear_rows)
    times, clear_times = column.times_ms, column.clear_times_ms
    if times is not None:
        known: Any = np.empty(0, np.int64) if clear_times is None else clear_times
        clear_times = np.concatenate([known, times[~good]])[order]
        times = times[good]
    return replace(
        column,
        rows=column.rows[good],
        values=take(values, np.flatnonzero(good)),
        clear_rows=clear_rows[order],
        times_ms=times,
        clear_times_ms=clear_times,
    )
