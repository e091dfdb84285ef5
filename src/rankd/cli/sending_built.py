"""Signals built from a history into a running server: SET, each value with its own time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rankd.cli.loading import Loader, Outcome, Reject
from rankd.cli.output import CommandError
from rankd.client import Client
from rankd.events.batch.build import Built
from rankd.events.batch.results import read_batches
from rankd.signals.coerce import RowBatch
from rankd.types.schema import Entity, Schema, Signal

IN_FLIGHT: Final = 4


@dataclass
class Written:
    """What became of an entity's rows. `late_count`: values that were left out, as the server has later ones."""

    row_count: int
    late_count: int
    rejects: list[Reject]


def check_schema(schema: Schema, built: Schema) -> None:
    """CommandError unless the server's signals are declared as those that are built."""
    for entity in built.entities.values():
        for signal in entity.signals.values():
            if signal.source is None:
                continue
            there = schema.entities.get(entity.name)
            found = there.signals.get(signal.name) if there is not None else None
            name = f"{entity.name}.{signal.name}"
            if found is None:
                raise CommandError(f"--to: the server's schema has no {name}; it was not started with this workspace")
            if _shape(found) != _shape(signal):
                raise CommandError(
                    f"--to: expected {name} as {_shown(signal)}, as this workspace has it; the server has it as "
                    f"{_shown(found)}"
                )


def _shape(signal: Signal) -> tuple[object, ...]:
    return (signal.type_name, signal.half_life_s, signal.window_s, signal.bucket_s)


def _shown(signal: Signal) -> str:
    named = {"half-life": signal.half_life_s, "window": signal.window_s, "bucket": signal.bucket_s}
    more = ", ".join(f"{name} {value:g} s" for name, value in named.items() if value is not None)
    return f"{signal.type_name} ({more})" if more else signal.type_name


def send(client: Client, entity: Entity, built: Built, patience_s: float, on_rows: Callable[[int], None]) -> Written:
    """Writes an entity's rows. `on_rows`: told how many more are done. RankdRpcError if they cannot be written; what
    was written by then is written again by another run, to the same end."""
    written = Written(0, 0, [])

    def done(last_line: int, outcome: Outcome) -> None:
        written.row_count += outcome.written_count
        written.late_count += outcome.late_count
        written.rejects += outcome.rejects
        on_rows(outcome.written_count + len(outcome.rejects))

    Loader(client, entity, done, IN_FLIGHT, patience_s).write(_batches(entity, built))
    return written


def _batches(entity: Entity, built: Built) -> Iterator[RowBatch]:
    row = 0
    for batch in read_batches(entity, built.path):
        ids: Sequence[str] = batch.ids
        yield RowBatch(np.arange(row + 1, row + 1 + len(ids)), ids, batch.columns, [])
        row += len(ids)
