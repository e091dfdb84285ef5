"""One declared source as a query: from normalised events to the state that each row's signal would have.

A state is what rankd.signals.accumulate would have come to from the same events in any order. Columns: `id`, `time`
(int64, ms since 1970, when the value is of) and `value`:

    f32, i64, timestamp, bool, category, string: the value of the latest event; at the same time, of the greater id
    decayed_counter: double, as of `time`
    windowed_counter: array<struct<bucket: int64, count: double>>, ascending; bucket: time / bucket length
    map: array<struct<key, value: double>>; decayed: as of `time`
    list: array<struct<age: int64, member>>, newest first; age: -time in ms
"""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.types as ir

from rankd.events.batch.expression import compile_node, is_there, whole
from rankd.events.batch.tables import Joiner
from rankd.events.declare import Update
from rankd.limits import MAX_CATEGORY_BYTES, MAX_SET_MEMBERS, MAX_STRING_BYTES
from rankd.signals.accumulate import F32_MAX
from rankd.types.schema import Signal, SignalKind

_MS_PER_S = 1000.0


def state_table(update: Update, events: ir.Table, joiner: Joiner) -> ir.Table:
    """id, value and time of every row that the events touch."""
    touched = _touched(update, events, joiner)
    match update.signal.kind:
        case SignalKind.COUNTER:
            return _decayed(touched, update.signal)
        case SignalKind.WINDOW:
            return _windowed(touched, update.signal)
        case SignalKind.MAP:
            return _map(touched, update.signal)
        case SignalKind.LIST:
            return _list(touched, update.signal)
        case _:
            return _latest(touched, update.signal)


def _touched(update: Update, events: ir.Table, joiner: Joiner) -> ir.Table:
    """The events that change the signal, each once for an id: id, event_id, time and weight, key, value."""
    events = events.filter(events["type"].isin(sorted(update.events)))
    events = joiner.with_lookups(events, update.expressions)
    events = joiner.with_id(events, update.id, "id")
    if update.where is not None:
        events = events.filter(compile_node(update.where, events))
    given = {
        name: compile_node(node, events)
        for name, node in (("weight", update.weight), ("key", update.key), ("value", update.value))
        if node is not None
    }
    chosen = events.select("id", "event_id", time=events["time"].cast("int64"), **given)
    chosen = chosen.filter([is_there(chosen[name]) for name in ("id", *given)])
    chosen = chosen.filter([_is_in_range(chosen[name], name, update.signal, joiner) for name in given])
    # An event that came more than once counts once.
    order = ibis.window(group_by=[chosen["id"], chosen["event_id"]], order_by=chosen["time"])
    first = chosen.mutate(place=ibis.row_number().over(order))
    return first.filter(first["place"] == 0).drop("place")


def _is_in_range(column: Any, name: str, signal: Signal, joiner: Joiner) -> Any:
    """Whether a store takes it: the stream's event is refused where it does not."""
    kind = column.type()
    if kind.is_string():
        most = MAX_STRING_BYTES if signal.kind is SignalKind.STRING else MAX_CATEGORY_BYTES
        return joiner.byte_count(column) <= most
    if kind.is_floating() and (name == "weight" or signal.kind is SignalKind.F32):
        return column.abs() <= F32_MAX
    return ibis.literal(True)


def _decay(signal: Signal, newest: Any, time: Any) -> Any:
    """What is left at `newest` of 1 at `time`."""
    if signal.half_life_s is None:
        return ibis.literal(1.0)
    age_ms = (newest - time).cast("float64")
    return ibis.literal(2.0) ** (-age_ms / (signal.half_life_s * _MS_PER_S))


def _with_newest(touched: ir.Table, name: str) -> ir.Table:
    """With the time of each id's latest event."""
    return touched.mutate(**{name: touched["time"].max().over(ibis.window(group_by=touched["id"]))})


def _decayed(touched: ir.Table, signal: Signal) -> ir.Table:
    touched = _with_newest(touched, "newest")
    amounts = touched.mutate(amount=touched["weight"] * _decay(signal, touched["newest"], touched["time"]))
    return amounts.group_by("id").aggregate(value=amounts["amount"].sum(), time=amounts["time"].max())


def _windowed(touched: ir.Table, signal: Signal) -> ir.Table:
    assert signal.window_s is not None and signal.bucket_s is not None
    bucket_ms = round(signal.bucket_s * _MS_PER_S)
    buckets = round(signal.window_s / signal.bucket_s)
    touched = _with_newest(touched, "newest")
    touched = touched.mutate(
        bucket=_floor_div(touched["time"], bucket_ms), newest_bucket=_floor_div(touched["newest"], bucket_ms)
    )
    inside = touched.filter(touched["bucket"] > touched["newest_bucket"] - buckets)
    sums = inside.group_by(["id", "bucket", "newest"]).aggregate(count=inside["weight"].sum())
    return _collected(sums.mutate(time=sums["newest"]), {"bucket": sums["bucket"], "count": sums["count"]})


def _floor_div(time: Any, bucket_ms: int) -> Any:
    """Below 0, too, towards the past."""
    rest = time % bucket_ms
    return ((time - ibis.cases((rest < 0, rest + bucket_ms), else_=rest)) / bucket_ms).round().cast("int64")


def _map(touched: ir.Table, signal: Signal) -> ir.Table:
    if touched["key"].type().is_array():
        touched = touched.unnest("key")
        touched = touched.filter(touched["key"].notnull())
    touched = _with_newest(touched, "newest")
    amounts = touched.mutate(amount=touched["weight"] * _decay(signal, touched["newest"], touched["time"]))
    sums = amounts.group_by(["id", "key", "newest"]).aggregate(total=amounts["amount"].sum())
    # As the stream bounds them.
    order = ibis.window(group_by=sums["id"], order_by=[sums["total"].abs().desc(), sums["key"]])
    placed = sums.mutate(place=ibis.row_number().over(order), time=sums["newest"])
    kept = placed.filter(placed["place"] < MAX_SET_MEMBERS)
    return _collected(kept, {"key": kept["key"], "value": kept["total"]})


def _list(touched: ir.Table, signal: Signal) -> ir.Table:
    newest = touched.group_by(["id", "value"]).aggregate(at=touched["time"].max())
    order = ibis.window(group_by=newest["id"], order_by=[newest["at"].desc(), newest["value"]])
    placed = newest.mutate(place=ibis.row_number().over(order))
    kept = placed.filter(placed["place"] < signal.dimension)
    kept = kept.mutate(time=kept["at"].max().over(ibis.window(group_by=kept["id"])))
    return _collected(kept, {"age": -kept["at"], "member": kept["value"]})


def _collected(table: ir.Table, element: dict[str, Any]) -> ir.Table:
    """The elements of each id in ascending order."""
    whole = table.mutate(element=ibis.struct(element))
    return whole.group_by("id").aggregate(value=whole["element"].collect().sort(), time=whole["time"].max())


def _latest(touched: ir.Table, signal: Signal) -> ir.Table:
    order = ibis.window(group_by=touched["id"], order_by=[touched["time"].desc(), touched["event_id"].desc()])
    placed = touched.mutate(place=ibis.row_number().over(order))
    last = placed.filter(placed["place"] == 0)
    value = last["value"]
    match signal.kind:
        case SignalKind.I64 | SignalKind.TIMESTAMP:
            value = whole(value)
        case SignalKind.F32:
            value = value.cast("float32")
    return last.select("id", value=value, time=last["time"])
