"""Events of OpenSearch's User Behavior Insights (UBI, https://github.com/o19s/ubi, versions 1.0 to 1.3), as NDJSON.

Documents of the indices ubi_events and ubi_queries in any mixture, one a line, with or without the action lines of a
bulk request before them. A document without an action_name is one of ubi_queries: it says what was searched for in the
events after it that have its query_id and do not say it themselves.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from rankd.events.files import parse_event
from rankd.limits import MAX_EVENT_PROPERTIES
from rankd.signals.rowfile import BadRow, read_lines
from rankd.types.event import Event

TYPES: Final = {"add_to_cart": "cart"}
"""Names of actions that have another name here; all others are types as they are."""

MAX_QUERIES: Final = 1_000_000
"""Of which the text is remembered; of more, the oldest are forgotten."""

_ACTIONS = ("index", "create")
_QUERY_OF: Final = ("application", "message_type", "query_id")


def read_ubi(path: Path) -> Iterator[tuple[int, Event] | BadRow]:
    """The events of a file in its order with their lines, and what cannot be read. ConfigError if the file as a whole
    cannot be read."""
    reader = _Reader()
    for line, text in read_lines(path):
        if isinstance(text, BadRow):
            yield text
            continue
        try:
            event = reader.event(text)
        except ValueError as error:
            yield BadRow(line, str(error))
            continue
        if event is not None:
            yield line, event


class _Reader:
    """Line by line. A document without an id gets one of its content, so that reading it again gives the same."""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder().decode
        self._id = ""
        self._queries: dict[str, str] = {}
        self._seen: Counter[str] = Counter()

    def event(self, text: bytes) -> Event | None:
        """The event of a line; None: it is none. ValueError: what is wrong."""
        if not text.strip():
            return None
        try:
            document = self._decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"expected a JSON object, got a malformed line: {error}") from None
        if not isinstance(document, dict):
            raise ValueError(f"expected a JSON object, got {type(document).__name__}")
        action = next((document[name] for name in _ACTIONS if name in document), None)
        if isinstance(action, dict) and len(document) == 1:
            self._id = str(action.get("_id") or "")
            return None
        id_, self._id = self._id or self._content_id(text), ""
        if document.get("action_name") is None:
            self._remember(document)
            return None
        return parse_event({"event_id": id_, **self._values(document)})

    def _content_id(self, text: bytes) -> str:
        digest = hashlib.sha256(text.strip()).hexdigest()[:32]
        self._seen[digest] += 1
        return digest if self._seen[digest] == 1 else f"{digest}:{self._seen[digest]}"

    def _remember(self, document: Mapping[str, Any]) -> None:
        query_id, query = document.get("query_id"), document.get("user_query")
        if not isinstance(query_id, str) or not isinstance(query, str):
            raise ValueError("expected an event with action_name, or a query with query_id and user_query, got neither")
        self._queries[query_id] = query
        if len(self._queries) > MAX_QUERIES:
            del self._queries[next(iter(self._queries))]

    def _values(self, document: Mapping[str, Any]) -> dict[str, Any]:
        action = document["action_name"]
        attributes = _inner(document, "event_attributes")
        shown, position = _inner(attributes, "object"), _inner(attributes, "position")
        query_id = document.get("query_id")
        query = document.get("user_query") or (self._queries.get(query_id) if isinstance(query_id, str) else None)
        return {
            "type": TYPES.get(action, action) if isinstance(action, str) else action,
            "time": document.get("timestamp"),
            "user_id": document.get("user_id"),
            "visitor_id": document.get("client_id"),
            "session_id": document.get("session_id") or attributes.get("session_id"),
            "item_id": shown.get("object_id"),
            "query": query,
            "position": position.get("ordinal"),
            "properties": _properties(document, attributes, shown),
        }


def _inner(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping within one; without it, an empty one."""
    inner = document.get(name)
    if inner is None:
        return {}
    if not isinstance(inner, dict):
        raise ValueError(f"{name}: expected an object, got {type(inner).__name__}")
    return inner


def _properties(
    document: Mapping[str, Any], attributes: Mapping[str, Any], shown: Mapping[str, Any]
) -> dict[str, float | str | bool]:
    """What is plain among the event's attributes and the object's details."""
    found = {name: document.get(name) for name in _QUERY_OF}
    found |= {"object_id_field": shown.get("object_id_field")}
    detail = shown.get("object_detail")
    found |= {**attributes, **(detail if isinstance(detail, dict) else {})}
    plain = {name: value for name, value in found.items() if isinstance(value, str | int | float)}
    return dict(list(plain.items())[:MAX_EVENT_PROPERTIES])
