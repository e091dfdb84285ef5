"""Events as columns: what one call of Collect, or one batch of a file, is worked on as."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankd import limits
from rankd.events.nodes import EVENT_FIELDS, ValueType
from rankd.v1 import feedback_pb2 as pb

T = TypeVar("T")

TEXT_FIELDS: Final = tuple(name for name, type in EVENT_FIELDS.items() if type is ValueType.TEXT)
"""Fields of events that are texts, by their names in expressions."""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """n events. `texts`: each of TEXT_FIELDS, n str, "" where it is missing. `times_ms`: int64 (n,), since 1970.
    `numbers`: position and value, float64 (n,), NaN where missing. `properties`: by event; flags are 1.0 and 0.0.
    `positions`: where they stood in the request, int64 (n,), ascending."""

    texts: Mapping[str, Sequence[str]]
    times_ms: NDArray[np.int64]
    numbers: Mapping[str, NDArray[np.float64]]
    properties: Sequence[Mapping[str, float | str]]
    positions: NDArray[np.int64]

    @property
    def length(self) -> int:
        """n."""
        return len(self.times_ms)


@dataclass(frozen=True, slots=True)
class EventFault:
    """An event that was not taken: its position in the request, the path of what is at fault below it ("" for the whole
    event), what was expected and what came."""

    position: int
    field: str
    description: str


def from_messages(
    messages: Sequence[pb.Event], now_ms: int, max_id_bytes: int
) -> tuple[EventBatch, list[EventFault], int]:
    """The events that can be taken; of the others the first fault of each; and how many of the first were left out as
    they came before in the same batch. `now_ms` is the time of those that have none."""
    faults = _Faults(messages)
    texts: dict[str, list[str]] = {
        "id": [message.event_id for message in messages],
        "type": [message.type for message in messages],
        **{
            name: [getattr(message, name) for message in messages] for name in TEXT_FIELDS if name not in ("id", "type")
        },
    }
    for name, field, most in (
        ("id", "event_id", limits.MAX_WRITE_ID_BYTES),
        ("type", "type", limits.MAX_EVENT_TYPE_BYTES),
    ):
        faults.check_length(field, texts[name], most, is_required=True)
    for name in ("user_id", "visitor_id", "session_id", "item_id"):
        faults.check_length(name, texts[name], max_id_bytes)
    faults.check_length("query", texts["query"], limits.MAX_QUERY_BYTES)
    times = [message.unix_millis if message.HasField("unix_millis") else now_ms for message in messages]
    faults.check_times(times, now_ms)
    values = [message.value if message.HasField("value") else math.nan for message in messages]
    for position, value in enumerate(values):
        if not math.isfinite(value) and messages[position].HasField("value"):
            faults.add(position, "value", f"expected a finite number, got {value}")
    positions = [message.position if message.HasField("position") else math.nan for message in messages]
    properties = [faults.properties(position, message) for position, message in enumerate(messages)]
    kept, repeated_count = _kept(texts["id"], faults.found)
    batch = EventBatch(
        texts={name: _taken(column, kept) for name, column in texts.items()},
        times_ms=np.array(_taken(times, kept), np.int64),
        numbers={
            "position": np.array(_taken(positions, kept), np.float64),
            "value": np.array(_taken(values, kept), np.float64),
        },
        properties=_taken(properties, kept),
        positions=np.array(kept, np.int64),
    )
    return batch, [faults.found[position] for position in sorted(faults.found)], repeated_count


def _kept(ids: Sequence[str], faults: Mapping[int, EventFault]) -> tuple[list[int], int]:
    """Positions of the events to work on, each id once, and how many came again."""
    if not faults and len(set(ids)) == len(ids):
        return list(range(len(ids))), 0
    seen: set[str] = set()
    kept, repeated = [], 0
    for position, id_ in enumerate(ids):
        if position in faults:
            continue
        if id_ in seen:
            repeated += 1
        else:
            seen.add(id_)
            kept.append(position)
    return kept, repeated


def _taken(column: Sequence[T], kept: Sequence[int]) -> Sequence[T]:
    return column if len(kept) == len(column) else [column[position] for position in kept]


_NO_PROPERTIES: Final[Mapping[str, float | str]] = {}


class _Faults:
    """The first fault of each event."""

    def __init__(self, messages: Sequence[pb.Event]) -> None:
        self.found: dict[int, EventFault] = {}
        self._messages = messages

    def add(self, position: int, field: str, description: str) -> None:
        self.found.setdefault(position, EventFault(position, field, description))

    def check_length(self, field: str, column: Sequence[str], most: int, *, is_required: bool = False) -> None:
        if is_required and not all(column):
            for position in (i for i, text in enumerate(column) if not text):
                self.add(position, field, "expected a text, got none")
        if max(map(len, column), default=0) * 4 > most:
            for position, text in enumerate(column):
                self._check_bytes(position, field, text, most)

    def _check_bytes(self, position: int, field: str, text: str, most: int) -> None:
        if len(text) * 4 > most and len(text.encode()) > most:
            self.add(position, field, f"expected at most {most} bytes, got {len(text.encode())}")

    def check_times(self, times: Iterable[int], now_ms: int) -> None:
        latest = now_ms + limits.MAX_EVENT_AHEAD_MS
        for position, time in enumerate(times):
            if time > latest:
                ahead = f"{(time - now_ms) / 1000:,.0f} s ahead"
                self.add(position, "unix_millis", f"expected at most an hour ahead of the server's clock, got {ahead}")
            elif time < -(2**53):
                self.add(position, "unix_millis", f"expected at least -2**53, got {time}")

    def properties(self, position: int, message: pb.Event) -> Mapping[str, float | str]:
        """An event's properties that have a value."""
        if not message.properties:
            return _NO_PROPERTIES
        if len(message.properties) > limits.MAX_EVENT_PROPERTIES:
            self.add(
                position,
                "properties",
                f"expected at most {limits.MAX_EVENT_PROPERTIES}, got {len(message.properties)}",
            )
        found: dict[str, float | str] = {}
        for name, value in message.properties.items():
            self._check_bytes(position, "properties", name, limits.MAX_NAME_CHARS)
            kind = value.WhichOneof("value")
            if kind == "text":
                found[name] = text = value.text
                self._check_bytes(position, f'properties["{name}"]', text, limits.MAX_PROPERTY_BYTES)
            elif kind == "number":
                found[name] = number = value.number
                if not math.isfinite(number):
                    self.add(position, f'properties["{name}"]', f"expected a finite number, got {number}")
            elif kind == "flag":
                found[name] = float(value.flag)
        return found
