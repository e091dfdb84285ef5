"""From declarations to a plan: where a profile is proven to be servable, or refused with the place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from rankd.errors import ConfigError
from rankd.features import compile_base, compile_features
from rankd.features.entities import PartSource, id_parts
from rankd.features.program import Input, Source
from rankd.models.scorer import LoadedModel
from rankd.ranking.plan import Plan, Read, Versions
from rankd.signals.store import Categories
from rankd.types.profile import Profile
from rankd.types.schema import Schema


def build_plan(profile: Profile, schema: Schema, categories: Categories, models: Mapping[str, LoadedModel]) -> Plan:
    """Compiles a profile. ConfigError (with the place) if anything in it cannot be served."""
    where = f"profiles.{profile.name}"
    if profile.entity not in schema.entities:
        known = ", ".join(sorted(schema.entities)) or "none declared"
        raise ConfigError(f"expected an entity of the schema ({known}), got {profile.entity!r}", f"{where}.entity")
    features = compile_features(profile, schema, categories.intern)
    base = compile_base(profile, schema, categories.intern)
    model = _find_model(profile, models, where)
    return Plan(
        profile=profile,
        versions=Versions(profile.version, model.version if model else "", schema.version),
        features=features,
        base=base,
        model=model,
        model_rows=_model_rows(model, features.output_names, where) if model else None,
        reads=_reads(profile.entity, schema, [*features.inputs, *(base.inputs if base else ())]),
    )


def _find_model(profile: Profile, models: Mapping[str, LoadedModel], where: str) -> LoadedModel | None:
    if profile.model is None:
        if profile.rerank_count is not None:
            raise ConfigError("rerank needs a model to re-score with; declare one or leave rerank out", where)
        return None
    if profile.model not in models:
        known = ", ".join(sorted(models)) or "none declared"
        raise ConfigError(f"expected a model ({known}), got {profile.model!r}", f"{where}.model")
    return models[profile.model]


def _model_rows(model: LoadedModel, names: tuple[str, ...], where: str) -> NDArray[np.intp] | None:
    """Where each model input stands in the feature matrix; None if they coincide."""
    wanted = model.scorer.feature_names
    if wanted == names:
        return None
    row_of = {name: row for row, name in enumerate(names)}
    absent = [name for name in wanted if name not in row_of]
    if absent:
        shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        raise ConfigError(
            f"model {model.name!r} needs features that the profile does not have: {shown}", f"{where}.model"
        )
    return np.array([row_of[name] for name in wanted], dtype=np.intp)


def _reads(entity: str, schema: Schema, inputs: Iterable[Input]) -> tuple[Read, ...]:
    """One read per entity, signals in first-use order; the candidates' first, even without signals, and of theirs those
    that ids are made of."""
    named = [item for item in inputs if item.source is Source.SIGNAL]
    parts = {name: id_parts(entity, schema, name) for name in [entity, *(item.namespace for item in named)]}
    wanted: dict[str, dict[str, None]] = {name: {} for name in parts}
    for part in (part for of_entity in parts.values() for part in of_entity):
        if part.source is PartSource.CATEGORY:
            wanted[entity][part.signal] = None
    for item in named:
        wanted[item.namespace][item.name] = None
    return tuple(Read(name, tuple(signals), parts[name]) for name, signals in wanted.items())
