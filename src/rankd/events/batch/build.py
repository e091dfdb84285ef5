"""`rankd build-signals`: a history of events in, a Parquet file of states per entity out.

    events ─ normalise ─┬─ one query for each source ─┬─ joined by id ─ ENTITY.parquet
                        └─ …                          ┘

A file has `id`, and for each signal that sources declare NAME and NAME.time (events.batch.signals says what they hold).
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis.expr.types as ir

from rankd.errors import ConfigError
from rankd.events.batch.checks import History
from rankd.events.batch.engines import Engine
from rankd.events.batch.signals import state_table
from rankd.events.batch.tables import Joiner, read_history, used_properties
from rankd.events.declare import Update, compile_sources
from rankd.limits import MAX_EVENT_AHEAD_MS
from rankd.types.schema import Schema

Report = Callable[[str, int, int], None]
"""(entity, entities done, entities in all)."""


@dataclass(frozen=True, slots=True)
class Built:
    """One entity's file, or folder of files."""

    entity: str
    path: Path
    row_count: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was built of `event_count` events, the newest of `newest_ms` (None: there are none). `fault_count` others
    cannot be taken; `faults` tells of the first: "FILE:LINE: what is wrong"."""

    entities: Sequence[Built]
    event_count: int
    newest_ms: int | None
    fault_count: int
    faults: Sequence[str]


def build(
    engine: Engine,
    schema: Schema,
    events: Sequence[History],
    rows: Mapping[str, Sequence[Path]],
    out: Path,
    *,
    now_ms: int,
    until_ms: int | None = None,
    report: Report = lambda entity, done, total: None,
) -> Outcome:
    """Builds all signals that have a source. `rows`: by entity, Parquet files of what expressions look up (`id` and
    signals). `now_ms`: events more than an hour later are faulty. `until_ms`: events at this time and later are left
    out. ConfigError, with what is wrong."""
    updates = compile_sources(schema)
    if not updates:
        raise ConfigError("no signal of the schema has a source (from:): there is nothing to build", "schema")
    latest_ms = now_ms + MAX_EVENT_AHEAD_MS
    table, fault_count, faults = read_history(engine, events, used_properties(updates), latest_ms)
    if until_ms is not None:
        table = table.filter(table["time"] < float(until_ms))
    found = table.aggregate(count=table.count(), newest=table["time"].max()).to_pyarrow().to_pylist()[0]
    joiner = Joiner(engine, schema, {entity: engine.read_parquet(list(paths)) for entity, paths in rows.items()})
    out.mkdir(parents=True, exist_ok=True)
    by_entity = {
        entity: list(group)
        for entity, group in itertools.groupby(sorted(updates, key=lambda one: one.entity), lambda one: one.entity)
    }
    built = []
    for done, (entity, group) in enumerate(by_entity.items()):
        report(entity, done, len(by_entity))
        path = out / f"{entity}.parquet"
        _remove(path)
        entity_table(group, table, joiner).to_parquet(str(path))
        built.append(Built(entity, path, int(engine.read_parquet([path]).count().to_pyarrow().as_py())))
    newest = found["newest"]
    return Outcome(built, found["count"], None if newest is None else int(newest), fault_count, faults)


def entity_table(updates: Iterable[Update], events: ir.Table, joiner: Joiner) -> ir.Table:
    """All signals of an entity side by side; NULL where a row has none."""
    states = []
    for update in updates:
        state, name = state_table(update, events, joiner), update.signal.name
        states.append(state.select("id", **{name: state["value"], f"{name}.time": state["time"]}))
    whole = states[0].select("id")
    for state in states[1:]:
        whole = whole.union(state.select("id"))
    whole = whole.distinct()
    for number, state in enumerate(states):
        renamed = state.rename({f"id_{number}": "id"})
        whole = whole.left_join(renamed, whole["id"] == renamed[f"id_{number}"]).drop(f"id_{number}")
    return whole


def _remove(path: Path) -> None:
    """Spark writes a folder, DuckDB a file."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
