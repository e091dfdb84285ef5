"""One thing that somebody did, or saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """As rankd.v1.Event, which says what each field means; "" and None: not known. `time_ms`: since 1970; None: when it
    is received. Properties: numbers, texts and flags; a flag reads as 1 or 0."""

    event_id: str
    type: str
    time_ms: int | None = None
    user_id: str = ""
    visitor_id: str = ""
    session_id: str = ""
    item_id: str = ""
    query: str = ""
    position: int | None = None
    value: float | None = None
    properties: Mapping[str, float | str | bool] = field(default_factory=dict)
