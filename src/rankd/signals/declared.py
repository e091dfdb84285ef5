"""The schema that stored values are of, as it stands beside them; and what has changed since.

Only what stored values depend on is in it: not defaults, TTLs, windows or sources, which take effect at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rankd.errors import StoreError
from rankd.types.schema import Element, Entity, Schema, Signal, SignalKind

Document = dict[str, Any]


def document_of(entities: Mapping[str, Entity]) -> Document:
    """JSON-able."""
    return {
        entity.name: {
            "key": list(entity.key),
            "signals": {
                signal.name: _signal_document(signal) for signal in entity.signals.values() if signal.is_stored
            },
        }
        for entity in entities.values()
    }


def _signal_document(signal: Signal) -> Document:
    document: Document = {"type": signal.kind.value}
    if signal.dimension:
        document["dimension"] = signal.dimension
    if signal.element is not Element.F32:
        document["element"] = signal.element.value
    if signal.half_life_s is not None:
        document["half_life_s"] = signal.half_life_s
    if signal.bucket_s is not None:
        document |= {"bucket_s": signal.bucket_s, "window_s": signal.window_s}
    return document


def entities_of(document: Document) -> dict[str, Entity]:
    """The inverse of `document_of`, as far as it says. StoreError if it is none."""
    try:
        return {
            name: Entity(
                name,
                {n: _signal_of(n, signal) for n, signal in entity["signals"].items()},
                tuple(entity["key"]),
            )
            for name, entity in document.items()
        }
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"a stored schema that this rankd does not know: {error!r}") from error


def _signal_of(name: str, document: Document) -> Signal:
    return Signal(
        name,
        SignalKind(document["type"]),
        dimension=int(document.get("dimension", 0)),
        element=Element(document.get("element", Element.F32.value)),
        half_life_s=document.get("half_life_s"),
        bucket_s=document.get("bucket_s"),
        window_s=document.get("window_s"),
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs. `what`: "added", "removed" or "retyped". `signal` "": the whole entity. `stored` and
    `declared`: its types, "" where there is none."""

    what: str
    entity: str
    signal: str
    stored: str
    declared: str

    @property
    def name(self) -> str:
        """Such as item.price, or item."""
        return f"{self.entity}.{self.signal}" if self.signal else self.entity


def differences(stored: Mapping[str, Entity], schema: Schema) -> list[Difference]:
    """What has changed since values were stored; by name."""
    found = []
    for name in sorted({*stored, *schema.entities}):
        old, new = stored.get(name), schema.entities.get(name)
        if old is None or new is None:
            found.append(Difference("removed" if new is None else "added", name, "", "", ""))
            continue
        for signal in sorted({*old.signals, *new.signals}):
            before, now = old.signals.get(signal), new.signals.get(signal)
            if now is not None and not now.is_stored:
                now = None
            if before is not None and now is not None:
                if before.storing != now.storing:
                    found.append(Difference("retyped", name, signal, type_text(before), type_text(now)))
            elif before is not None:
                found.append(Difference("removed", name, signal, type_text(before), ""))
            elif now is not None:
                found.append(Difference("added", name, signal, "", type_text(now)))
    return found


def type_text(signal: Signal) -> str:
    """A type with what else its stored values depend on: "map, half_life 3600 s"."""
    parts = [signal.type_name]
    if signal.element is not Element.F32:
        parts.append(f"element {signal.element.value}")
    if signal.half_life_s is not None:
        parts.append(f"half_life {signal.half_life_s:g} s")
    if signal.bucket_s is not None:
        parts.append(f"bucket {signal.bucket_s:g} s")
    return ", ".join(parts)


def union(stored: Mapping[str, Entity], schema: Schema) -> Schema:
    """The declared schema, and what is stored but declared no more. StoreError for what is declared otherwise."""
    retyped = [d for d in differences(stored, schema) if d.what == "retyped"]
    if retyped:
        raise StoreError("; ".join(_retyped_text(d) for d in retyped))
    return with_kept(schema, stored)


def with_kept(schema: Schema, stored: Mapping[str, Entity]) -> Schema:
    """The declared schema, and of `stored` what it lacks."""
    entities = dict(schema.entities)
    for name, old in stored.items():
        new = entities.get(name)
        if new is None:
            entities[name] = old
        elif not old.signals.keys() <= new.signals.keys():
            entities[name] = Entity(name, {**old.signals, **new.signals}, new.key, new.storage)
    return Schema(entities)


def kept_of(whole: Schema, schema: Schema) -> Document:
    """What `whole` has more than `schema`, as a document for `with_kept`."""
    kept = {}
    for name, entity in whole.entities.items():
        declared: Sequence[str] | Mapping[str, Signal] = (
            schema.entities[name].signals if name in schema.entities else ()
        )
        signals = {n: s for n, s in entity.signals.items() if n not in declared}
        if name not in schema.entities or signals:
            kept[name] = Entity(name, signals, entity.key)
    return document_of(kept)


def _retyped_text(difference: Difference) -> str:
    return (
        f"signal {difference.name} is declared {difference.declared}, but stored values of it are "
        f"{difference.stored}; `rankd schema migrate` converts or drops them, or give the new signal another name"
    )


def same(one: Document, other: Document) -> bool:
    """Whether two documents say the same."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
