"""Rules between sections, checked on what was written, so that they are reported with everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from rankd.types.schema import Signal, SignalKind
from rankd.workspace.sections import MODEL_FORMATS, ModelFormat
from rankd.workspace.signals import SignalSection, signal_of
from rankd.workspace.values import one_of
from rankd.workspace.yaml_text import Document, shown
from rankd.workspace.yaml_text import Path as Place

REQUEST_PARTS = ("user", "visitor", "session", "query")
"""What a request names one of; of these a composite entity can be made without a declaration."""

_PEOPLE = ("user", "visitor", "session")


def check_references(document: Document) -> None:
    """Adds a problem for everything that does not fit together."""
    schema = _mapping(document.value, "schema")
    composite = _composite(document.value)
    _check_profiles(document, schema, composite)
    _check_models(document)
    for entity, signals in schema.items():
        if isinstance(signals, dict):
            _check_ratios(document, entity, signals)
    for name, entity in _mapping(document.value, "entities").items():
        if name not in schema:
            document.report(("entities", name), one_of(name, schema, "an entity of the schema"))
        key = entity.get("key") if isinstance(entity, dict) else None
        if isinstance(key, list) and all(isinstance(part, str) for part in key):
            _check_key(document, name, key, schema, composite)


def _check_profiles(document: Document, schema: Mapping[str, Any], composite: frozenset[str]) -> None:
    models = _mapping(document.value, "models")
    for name, profile in _mapping(document.value, "profiles").items():
        if not isinstance(profile, dict):
            continue
        path = ("profiles", name)
        entity = profile.get("entity", "item")
        if isinstance(entity, str) and entity not in schema:
            document.report((*path, "entity"), one_of(entity, schema, "an entity of the schema"))
        if isinstance(entity, str) and entity in composite:
            document.report((*path, "entity"), f"expected an entity without a key, got {shown(entity)}")
        model = profile.get("model")
        if isinstance(model, str) and model not in models:
            document.report((*path, "model"), one_of(model, models, "a model of the workspace"))
        if model is None and profile.get("rerank") is not None:
            document.report((*path, "rerank"), "expected a model beside rerank, got none")


def _check_models(document: Document) -> None:
    for name, model in _mapping(document.value, "models").items():
        file = model.get("file") if isinstance(model, dict) else None
        if isinstance(file, str) and model.get("format") is None and Path(file).suffix not in MODEL_FORMATS:
            formats = ", ".join(get_args(ModelFormat))
            message = f"expected format, one of {formats}, as the extension of {shown(file)} does not tell"
            document.report(("models", name, "file"), message)


def _check_ratios(document: Document, entity: str, signals: Mapping[str, Any]) -> None:
    """The parts of a ratio are windowed counters of its entity; clicks of a day over impressions of a week say nothing,
    so that their windows and buckets are the same."""
    declared = dict(_signals(signals))
    windows = [name for name, signal in declared.items() if signal.kind is SignalKind.WINDOW]
    for name, signal in declared.items():
        if signal.ratio_of is None:
            continue
        path: Place = ("schema", entity, name, "of")
        unknown = [part for part in signal.ratio_of if part not in signals]
        for i, part in enumerate(signal.ratio_of):
            if part in unknown or (part in declared and part not in windows):
                document.report((*path, i), one_of(part, windows, f"a windowed_counter of {entity}"))
        if all(part in windows for part in signal.ratio_of):
            first, second = (declared[part] for part in signal.ratio_of)
            if (first.window_s, first.bucket_s) != (second.window_s, second.bucket_s):
                document.report(
                    path,
                    f"expected counters of one window and bucket, got {_window(first)} and {_window(second)}",
                )


def _window(signal: Signal) -> str:
    return f"{signal.window_s:g} s in buckets of {signal.bucket_s:g} s"


def _signals(signals: Mapping[str, Any]) -> Iterator[tuple[str, Signal]]:
    """Those that can be read; the others are reported by themselves."""
    for name, value in signals.items():
        try:
            yield name, signal_of(name, SignalSection.model_validate(value))
        except ValidationError:
            continue


def _check_key(
    document: Document, name: str, key: list[str], schema: Mapping[str, Any], composite: frozenset[str]
) -> None:
    if name in (*REQUEST_PARTS, "item"):
        document.report(("entities", name, "key"), f"expected no key for {name}, whose ids are its own; got a list")
    candidates: set[str] = set()
    for i, part in enumerate(key):
        path: Place = ("entities", name, "key", i)
        entity, dot, signal = part.partition(".")
        if entity in REQUEST_PARTS and not dot:
            if entity in _PEOPLE and any(other not in _PEOPLE for other in key[:i]):
                document.report(path, f"expected {entity} before what is no person, got it behind {shown(key[i - 1])}")
            continue
        plain = [e for e in schema if e not in composite and e not in REQUEST_PARTS]
        if entity not in plain:
            message = "user, visitor, session, query, an entity without a key, or a category of one such as item.brand"
            document.report(path, one_of(part, [*REQUEST_PARTS, *plain], message))
            continue
        candidates.add(entity)
        if len(candidates) > 1:
            document.report(path, f"expected parts of one kind of candidates, got {' and '.join(sorted(candidates))}")
        if dot:
            signals = schema[entity] if isinstance(schema[entity], dict) else {}
            categories = [s.name for _, s in _signals(signals) if s.kind is SignalKind.CATEGORY]
            if signal not in categories:
                document.report(path, one_of(signal, categories, f"a category of {entity}"))


def _composite(document: Any) -> frozenset[str]:
    entities = _mapping(document, "entities")
    return frozenset(name for name, entity in entities.items() if isinstance(entity, dict) and entity.get("key"))


def _mapping(value: Any, key: str) -> dict[str, Any]:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}
