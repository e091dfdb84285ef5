"""What increments come to: stored states and amounts, in any order, to new states. Pure; every backend uses it.

A decayed counter is a sum of amounts w at times s that halve every h: V(t) = sum of w * 2**-((t - s)/h). It is kept as
V at the latest time T of an amount (or of what was set). Exponential decay commutes with time, so an amount of a time s
before T is worth w * 2**-((T - s)/h) at T, and one after it moves T: any order of the same amounts gives the same V(T),
but for rounding. That is forward decay with the landmark at T (Cormode, Shkapenyuk, Srivastava and Xu, "Forward decay:
a practical time decay model for streaming systems", ICDE 2009), for which exponential decay is the same looking back
or ahead. A map with a half-life is one such counter for each key, with one T for all.

A windowed counter is a sum by bucket of time; only the buckets of the window that ends with the newest one are kept,
which any order of the same amounts leaves the same. A list holds distinct members, newest first, each at its latest
time; what is not among the n latest now never will be.

The value's time becomes the latest of its own and those of what was added. To what was never written, was cleared or
has expired is added as to nothing, at the time it was cleared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankd.limits import MAX_SET_MEMBERS
from rankd.signals.store import ColumnValues, ListValues, MapValues, Operation, Values, WindowValues
from rankd.signals.values import owners
from rankd.types.schema import Signal, SignalKind

NEVER_MS = int(np.iinfo(np.int64).min)
"""The time of what was never written."""

ADDABLE = frozenset({SignalKind.COUNTER, SignalKind.WINDOW, SignalKind.MAP, SignalKind.LIST})
"""The kinds that can be added to."""

F32_MAX = float(np.finfo(np.float32).max)

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class States:
    """What is stored of one signal for n rows.

    `present` bool (n,): which rows have a value; `values`: of these, in order. `times_ms` int64 (n,): when the value
    was so, or was cleared; NEVER_MS: never written.
    """

    values: Values
    present: NDArray[np.bool_]
    times_ms: NDArray[np.int64]

    @classmethod
    def of(cls, column: ColumnValues, count: int, cleared_ms: NDArray[np.int64] | None = None) -> States:
        """Of a column as a store reads it, with `times_ms`, of `count` rows. `cleared_ms` int64 (count,): the times of
        rows without a value; None: never written."""
        present = np.zeros(count, np.bool_)
        present[column.rows] = True
        times = np.full(count, NEVER_MS, np.int64) if cleared_ms is None else cleared_ms.copy()
        assert column.times_ms is not None
        times[column.rows] = column.times_ms
        return cls(column.values, present, times)

    def column(self, signal: str, rows: Rows | None = None) -> ColumnValues:
        """As a column that sets these values, each at its time. `rows` (n,): ascending positions in the batch to be
        written; None: 0 to n - 1. Rows without a value are not in it."""
        at = np.flatnonzero(self.present)
        return ColumnValues(
            signal,
            at if rows is None else rows[at],
            self.values,
            np.empty(0, np.int64),
            Operation.SET,
            self.times_ms[at],
        )


def accumulate(signal: Signal, states: States, rows: Rows, amounts: Values, times_ms: NDArray[np.int64]) -> States:
    """The states of n rows after amounts are added.

    `rows` int64 (m,): which of the n rows each amount is for, in the order of writing; a row may come any number of
    times. `amounts` for m rows, as Operation.ADD has them: float64 (decayed and windowed counters), MapValues with
    distinct keys in a row, or m str (lists); finite. `times_ms` int64 (m,), at or after 1970: of each amount. A sum
    beyond the range of its type stays at the end of the range. Rows that nothing is added to are as they were.
    TypeError: the kind cannot be added to.
    """
    latest = states.times_ms.copy()
    np.maximum.at(latest, rows, times_ms)
    present = states.present.copy()
    present[rows] = True
    match signal.kind:
        case SignalKind.COUNTER:
            values: Values = _counters(signal, states, latest, present, rows, _numbers(amounts), times_ms)
        case SignalKind.WINDOW:
            values = _windows(signal, states, latest, present, rows, _numbers(amounts), times_ms)
        case SignalKind.MAP:
            values = _maps(signal, states, latest, present, rows, cast(MapValues, amounts), times_ms)
        case SignalKind.LIST:
            values = _lists(signal, states, present, rows, cast(Sequence[str], amounts), times_ms)
        case _:
            raise TypeError(f"{signal.name} of type {signal.type_name} cannot be added to")
    return States(values, present, latest)


def decay(elapsed_ms: NDArray[np.int64], half_life_s: float) -> NDArray[np.float64]:
    """2**-(elapsed / half-life)."""
    return np.exp2(-elapsed_ms.astype(np.float64) / (half_life_s * 1000))


def bucket_of(signal: Signal, times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of the buckets that times fall in."""
    numbers: NDArray[np.int64] = times_ms // bucket_ms(signal)
    return numbers


def bucket_ms(signal: Signal) -> int:
    """How long the buckets of a windowed counter are."""
    assert signal.bucket_s is not None
    return round(signal.bucket_s * 1000)


def bucket_count(signal: Signal) -> int:
    """How many buckets a window has, the current one included."""
    assert signal.bucket_s is not None and signal.window_s is not None
    return round(signal.window_s / signal.bucket_s)


def _numbers(amounts: Values) -> NDArray[np.float64]:
    return cast(NDArray[np.float64], amounts)


def _counters(
    signal: Signal,
    states: States,
    latest: NDArray[np.int64],
    present: NDArray[np.bool_],
    rows: Rows,
    amounts: NDArray[np.float64],
    times_ms: NDArray[np.int64],
) -> NDArray[np.float64]:
    assert signal.half_life_s is not None
    had = np.flatnonzero(states.present)
    start = np.zeros(len(latest))
    start[had] = cast(NDArray[np.float64], states.values) * decay(
        latest[had] - states.times_ms[had], signal.half_life_s
    )
    worth = amounts * decay(latest[rows] - times_ms, signal.half_life_s)
    with np.errstate(over="ignore"):
        total = start + np.bincount(rows, worth, len(latest))
    most = np.finfo(np.float64).max
    return np.clip(total, -most, most)[present]


def _windows(
    signal: Signal,
    states: States,
    latest: NDArray[np.int64],
    present: NDArray[np.bool_],
    rows: Rows,
    amounts: NDArray[np.float64],
    times_ms: NDArray[np.int64],
) -> WindowValues:
    stored = cast(WindowValues, states.values)
    owner = np.concatenate([np.flatnonzero(states.present)[owners(stored.lengths)], rows])
    bucket = np.concatenate([stored.buckets.astype(np.int64), bucket_of(signal, times_ms)])
    count = np.concatenate([stored.counts.astype(np.float64), amounts])
    touched = np.zeros(len(latest), np.bool_)
    touched[rows] = True
    # A row that is not touched keeps even what its window has left behind: nothing has happened to it.
    newest = np.where(touched, bucket_of(signal, latest), np.iinfo(np.int64).min)
    np.maximum.at(newest, owner, bucket)
    kept = ~touched[owner] | (bucket > newest[owner] - bucket_count(signal))
    owner, bucket, count = owner[kept], bucket[kept], count[kept]
    order = np.lexsort((bucket, owner))
    owner, bucket, count = owner[order], bucket[order], count[order]
    first = np.ones(len(owner), np.bool_)
    first[1:] = (owner[1:] != owner[:-1]) | (bucket[1:] != bucket[:-1])
    sums = np.add.reduceat(count, np.flatnonzero(first)) if len(count) else count
    lengths = np.bincount(owner[first], minlength=len(latest))[present]
    return WindowValues(bucket[first].astype(np.int32), _as_f32(sums), lengths)


def _maps(
    signal: Signal,
    states: States,
    latest: NDArray[np.int64],
    present: NDArray[np.bool_],
    rows: Rows,
    amounts: MapValues,
    times_ms: NDArray[np.int64],
) -> MapValues:
    stored = cast(MapValues, states.values)
    had = np.flatnonzero(states.present)[owners(stored.lengths)]
    added = owners(amounts.lengths)
    before, more = stored.values.astype(np.float64), amounts.values.astype(np.float64)
    if signal.half_life_s is not None:
        before = before * decay(latest[had] - states.times_ms[had], signal.half_life_s)
        more = more * decay(latest[rows[added]] - times_ms[added], signal.half_life_s)
    owner = np.concatenate([had, rows[added]])
    texts, code = _coded([*stored.keys, *amounts.keys])
    pair = owner * len(texts) + code
    pairs, inverse = np.unique(pair, return_inverse=True)
    sums: NDArray[np.float64] = np.bincount(inverse, np.concatenate([before, more]), len(pairs)).astype(np.float64)
    owner, code = (pairs // len(texts), pairs % len(texts)) if texts else (pairs, pairs)
    lengths = np.bincount(owner, minlength=len(latest))
    if len(lengths) and int(lengths.max()) > MAX_SET_MEMBERS:
        kept = _largest(owner, sums, code, texts)
        owner, code, sums = owner[kept], code[kept], sums[kept]
        lengths = np.bincount(owner, minlength=len(latest))
    return MapValues([texts[i] for i in code.tolist()], _as_f32(sums), lengths[present])


def _largest(owner: Rows, sums: NDArray[np.float64], code: Rows, texts: Sequence[str]) -> Rows:
    """Of each row those MAX_SET_MEMBERS elements whose sums have the largest magnitudes (ties: by text), in order."""
    by_text = np.argsort(np.array(sorted(range(len(texts)), key=texts.__getitem__), np.int64))
    order = np.lexsort((by_text[code], -np.abs(sums), owner))
    return np.sort(order[_rank_within(owner[order]) < MAX_SET_MEMBERS])


def _lists(
    signal: Signal,
    states: States,
    present: NDArray[np.bool_],
    rows: Rows,
    amounts: Sequence[str],
    times_ms: NDArray[np.int64],
) -> ListValues:
    stored = cast(ListValues, states.values)
    owner = np.concatenate([np.flatnonzero(states.present)[owners(stored.lengths)], rows])
    times = np.concatenate([stored.times_ms, times_ms])
    # Of equal times the later write comes first: the new ones, last first, then the stored ones in their order.
    written = np.concatenate([np.arange(len(stored.members)) - len(stored.members), -np.arange(len(rows)) - len(times)])
    texts, code = _coded([*stored.members, *amounts])
    newest_first = np.lexsort((written, -times, owner))
    _, first = np.unique((owner * len(texts) + code)[newest_first], return_index=True)
    order = newest_first[np.sort(first)]
    order = order[_rank_within(owner[order]) < signal.dimension]
    lengths = np.bincount(owner[order], minlength=len(present))[present]
    return ListValues([texts[i] for i in code[order].tolist()], times[order], lengths)


def _rank_within(owner: Rows) -> Rows:
    """The place of each element among those of its owner, where owners come together."""
    starts = np.flatnonzero(np.concatenate([[True], owner[1:] != owner[:-1]])) if len(owner) else owner
    ranks: Rows = np.arange(len(owner)) - np.repeat(starts, np.diff(np.append(starts, len(owner))))
    return ranks


def _coded(texts: list[str]) -> tuple[list[str], Rows]:
    """The distinct texts, and the number of each text among them."""
    numbers: dict[str, int] = {}
    codes = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64, len(texts))
    return list(numbers), codes


def _as_f32(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.clip(numbers, -F32_MAX, F32_MAX).astype(np.float32)
