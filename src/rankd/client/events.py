"""Events as they are sent, and what became of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from rankd.client.signals import RejectedRow
from rankd.client.values import is_missing, is_number, unix_millis, wrong_type
from rankd.types.event import Event
from rankd.v1 import feedback_pb2

EventData: TypeAlias = Event | Mapping[str, Any] | feedback_pb2.Event
"""An event: rankd.client.Event, a message, or a mapping of the fields of Event, with `time` (an aware datetime, a
datetime64 or milliseconds since 1970) in place of time_ms."""


@dataclass(frozen=True, slots=True)
class CollectResult:
    """How many events were taken, how many of them had come before, and which were refused: `row` is the position in
    the events, `field` a path such as events[3].value."""

    accepted_count: int
    repeated_count: int = 0
    rejected: tuple[RejectedRow, ...] = ()

    @classmethod
    def of(cls, message: feedback_pb2.CollectResponse, first_row: int = 0) -> CollectResult:
        """`first_row`: the position of the call's first event in all of them."""
        rejected = tuple(RejectedRow(first_row + r.row, r.field, r.description) for r in message.rejected)
        return cls(message.accepted_count, message.repeated_count, rejected)

    def __add__(self, other: CollectResult) -> CollectResult:
        return CollectResult(
            self.accepted_count + other.accepted_count,
            self.repeated_count + other.repeated_count,
            self.rejected + other.rejected,
        )


_TEXTS = ("event_id", "type", "user_id", "visitor_id", "session_id", "item_id", "query")
_FIELDS = (*_TEXTS, "time", "time_ms", "position", "value", "properties")


def event_message(field: str, event: EventData) -> feedback_pb2.Event:
    """An event as it is sent; `field` is its path. RequestError for what cannot be sent."""
    if isinstance(event, feedback_pb2.Event):
        return event
    values = _values(event) if isinstance(event, Event) else dict(event)
    message = feedback_pb2.Event()
    for name, value in values.items():
        path = f"{field}.{name}"
        if name not in _FIELDS:
            wrong_type(path, f"one of {', '.join(_FIELDS)}", name)
        if is_missing(value):
            continue
        if name in _TEXTS:
            setattr(message, name, _text(path, value))
        elif name in ("time", "time_ms"):
            message.unix_millis = unix_millis(path, value)
        elif name == "properties":
            for key, inner in value.items():
                if not is_missing(inner):
                    _set_property(message.properties[_text(path, key)], f'{path}["{key}"]', inner)
        elif not is_number(value):
            wrong_type(path, "a number", value)
        elif name == "value":
            message.value = float(value)
        else:
            message.position = _position(path, value)
    return message


def _values(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.__slots__}


def _text(path: str, value: Any) -> str:
    if not isinstance(value, str):
        wrong_type(path, "a string", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        wrong_type(path, "text without lone surrogates", value)
    return value


def _position(path: str, value: Any) -> int:
    if not math.isfinite(value) or value != int(value) or not 0 <= value < 2**32:
        wrong_type(path, "a whole number of 32 bits", value)
    return int(value)


def _set_property(message: feedback_pb2.PropertyValue, path: str, value: Any) -> None:
    if isinstance(value, bool | np.bool_):
        message.flag = bool(value)
    elif is_number(value):
        message.number = float(value)
    elif isinstance(value, str):
        message.text = _text(path, value)
    else:
        wrong_type(path, "a number, a text, True or False", value)
