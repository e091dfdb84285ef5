"""`rankd describe`: the schema in force, and how full and how old its signals are."""

from __future__ import annotations

from typing import Any

import click

from rankd.cli.output import json_option, print_json, print_table
from rankd.cli.ranked_table import bar
from rankd.cli.remote import connected, remote_options
from rankd.cli.spans import shown_bytes, shown_span
from rankd.client import SchemaDescription
from rankd.types.schema import Element, Entity, Signal, SignalKind


@click.command()
@click.option(
    "--statistics/--no-statistics", default=True, show_default=True,
    help="Fill rates, ages and sizes; without, the server has less to do.",
)  # fmt: skip
@remote_options
@json_option
def command(statistics: bool, address: str, timeout_s: float, as_json: bool) -> None:
    """Show the schema that a server has in force, and how full and how old its signals are.

    Of each signal: how many rows have a value, the median and the greatest age of values; of each entity rows and
    bytes; and, where signals are shared through Redis, how far this server is behind. Of very large entities these are
    estimates.

    \b
    Examples:
      rankd describe
      rankd describe --no-statistics
      rankd describe --json
    """
    with connected(address, timeout_s) as client:
        found = client.describe_schema(statistics=statistics)
    if as_json:
        print_json(_document(found))
    else:
        _print(found, statistics)


def _document(found: SchemaDescription) -> dict[str, Any]:
    replica = found.replica
    entities = {}
    for name, entity in found.schema.entities.items():
        known = found.statistics.get(name, {})
        signals = {}
        for signal in entity.signals.values():
            document: dict[str, Any] = {"type": signal.type_name, **_options(signal)}
            if signal.name in known:
                of_signal = known[signal.name]
                document |= {
                    "filled": of_signal.filled_count,
                    "median_age_seconds": of_signal.median_age_s,
                    "greatest_age_seconds": of_signal.greatest_age_s,
                }
            signals[signal.name] = document
        entities[name] = {
            "rows": found.row_counts[name],
            "bytes": found.used_bytes.get(name),
            "key": list(entity.key),
            "fetched": name in found.fetched,
            "signals": signals,
        }
    shared = None if replica is None else {"in_step": replica.in_step, "lag_seconds": replica.lag_s}
    return {"version": found.version, "entities": entities, "replica": shared}


def _options(signal: Signal) -> dict[str, Any]:
    """What is declared of a signal besides its type."""
    given: dict[str, Any] = {
        "default": _default(signal),
        "ttl_seconds": signal.ttl_s,
        "half_life_seconds": signal.half_life_s,
        "window_seconds": signal.window_s,
        "bucket_seconds": signal.bucket_s,
        "of": None if signal.ratio_of is None else list(signal.ratio_of),
        "prior": None if signal.prior is None else {"mean": signal.prior.mean, "weight": signal.prior.weight},
        "element": None if signal.element is Element.F32 else signal.element.value,
    }
    return {name: value for name, value in given.items() if value is not None}


def _default(signal: Signal) -> float | int | bool | None:
    """As rankd.yaml writes it."""
    value = signal.default
    if value is None:
        return None
    if signal.kind is SignalKind.BOOL:
        return bool(value)
    return int(value) if value.is_integer() else value


def _print(found: SchemaDescription, statistics: bool) -> None:
    click.echo(f"schema {found.version}")
    if found.replica is not None:
        step = "in step" if found.replica.in_step else "not in step"
        click.echo(f"replica {step}, at most {shown_span(found.replica.lag_s)} behind")
    for name, entity in found.schema.entities.items():
        parts = [f"{found.row_counts[name]:,} rows"]
        if name in found.used_bytes:
            parts.append(shown_bytes(found.used_bytes[name]))
        if entity.key:
            parts.append(f"ids of {', '.join(entity.key)}")
        if name in found.fetched:
            parts.append("read for each request")
        click.echo(f"\n{name}: {', '.join(parts)}")
        if statistics:
            columns = ["signal", "type", "filled", "", "median age", "oldest", "declared"]
            print_table(columns, [_cells(found, entity, s) for s in entity.signals.values()], ["median age", "oldest"])
        else:
            rows = [(s.name, s.type_name, _declared(s)) for s in entity.signals.values()]
            print_table(["signal", "type", "declared"], rows)


def _cells(found: SchemaDescription, entity: Entity, signal: Signal) -> tuple[str, ...]:
    known = found.statistics.get(entity.name, {}).get(signal.name)
    rows = found.row_counts[entity.name]
    if known is None or not rows:
        return (signal.name, signal.type_name, "–", "", "–", "–", _declared(signal))
    share = min(1.0, known.filled_count / rows)
    return (
        signal.name,
        signal.type_name,
        f"{100 * share:.0f} %",
        bar(share, 0.0, 1.0),
        shown_span(known.median_age_s),
        shown_span(known.greatest_age_s),
        _declared(signal),
    )


def _declared(signal: Signal) -> str:
    parts = []
    for name, value in _options(signal).items():
        if name.endswith("_seconds"):
            shown = shown_span(value)
        elif name == "prior":
            shown = f"{value['mean']:g} of weight {value['weight']:g}"
        elif isinstance(value, bool):
            shown = str(value).lower()
        else:
            shown = " / ".join(value) if isinstance(value, list) else str(value)
        parts.append(f"{name.removesuffix('_seconds').replace('_', ' ')} {shown}")
    return ", ".join(parts)
