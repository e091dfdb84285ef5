"""`rankd build-signals`: a history of events in, a Parquet file of states per entity out.

    events ─ normalise ─┬─ one query for each source ─┬─ by id ─ ENTITY.parquet
                        └─ …                          ┘

A file has `id`, and for each signal that sources declare NAME and NAME.time (events.batch.signals says what they hold).
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow.parquet as pq

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
    table = engine.view(table)
    found = table.aggregate(count=table.count(), newest=table["time"].max()).to_pyarrow().to_pylist()[0]
    joiner = Joiner(engine, schema, table, {entity: engine.read_parquet(list(paths)) for entity, paths in rows.items()})
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
        built.append(Built(entity, path, _row_count(path)))
    newest = found["newest"]
    return Outcome(built, found["count"], None if newest is None else int(newest), fault_count, faults)


def entity_table(updates: Sequence[Update], events: ir.Table, joiner: Joiner) -> ir.Table:
    """All signals of an entity side by side; NULL where a row has none."""
    states = []
    for update in updates:
        state, name = state_table(update, events, joiner), update.signal.name
        states.append(state.select("id", **{name: state["value"], f"{name}.time": state["time"]}))
    # One under the other, then together by id: a join would have Spark compute every state twice.
    types = {name: kind for state in states for name, kind in state.schema().items()}
    whole = ibis.union(
        *(state.select(*(state[n] if n in state.columns else ibis.null(t).name(n) for n, t in types.items()))
          for state in states)
    )  # fmt: skip
    return whole.group_by("id").aggregate(**{name: whole[name].first() for name in types if name != "id"})


def _row_count(path: Path) -> int:
    return sum(pq.read_metadata(file).num_rows for file in (path.glob("*.parquet") if path.is_dir() else [path]))


def _remove(path: Path) -> None:
    """Spark writes a folder, DuckDB a file."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
