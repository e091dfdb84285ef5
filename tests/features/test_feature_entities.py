"""Which entities a profile can read: the candidates', what a request names one of, and what is kept about several."""

from __future__ import annotations

import pytest

from rankd.errors import ExpressionError
from rankd.features import compile_features
from rankd.features.entities import IdPart, PartSource, UnknownNameError, id_parts
from rankd.types.profile import Feature, Profile
from rankd.types.schema import Entity, Schema, Signal, SignalKind

CTR = {"ctr": Signal("ctr", SignalKind.F32)}
ITEM = {**CTR, "brand": Signal("brand", SignalKind.CATEGORY), "tags": Signal("tags", SignalKind.SET)}
KEYS = {
    "query_item": ("query", "item"),
    "user_brand": ("user", "item.brand"),
    "user_session": ("user", "session"),
    "store_item": ("store", "item"),
    "tagged": ("user", "item.tags"),
    "unheard": ("item.color",),
}
SCHEMA = Schema(
    {
        "item": Entity("item", ITEM),
        **{name: Entity(name, CTR) for name in ("user", "session", "query", "product", "store")},
        **{name: Entity(name, CTR, key) for name, key in KEYS.items()},
    }
)
CANDIDATE, USER, SESSION, QUERY = (
    IdPart(source) for source in (PartSource.CANDIDATE, PartSource.USER, PartSource.SESSION, PartSource.QUERY)
)


@pytest.mark.parametrize(
    ("candidates", "entity", "parts"),
    [
        ("item", "item", (CANDIDATE,)),
        ("item", "user", (USER,)),
        ("item", "session", (SESSION,)),
        ("item", "query", (QUERY,)),
        ("item", "query_item", (QUERY, CANDIDATE)),
        ("item", "user_brand", (USER, IdPart(PartSource.CATEGORY, "brand"))),
        ("item", "user_session", (USER, SESSION)),
        ("user", "user_session", (CANDIDATE, SESSION)),  # the candidates are users
        ("query_item", "query_item", (CANDIDATE,)),  # ids are joined by the caller
        ("store", "store_item", None),
        ("item", "store_item", None),
        ("item", "store", None),
        ("product", "query_item", None),
        ("product", "user_brand", None),
        ("item", "tagged", None),
        ("item", "unheard", None),
        ("item", "nowhere", None),
    ],
)
def test_what_ids_are_joined_of(candidates: str, entity: str, parts: tuple[IdPart, ...] | None) -> None:
    if parts is None:
        with pytest.raises(UnknownNameError):
            id_parts(candidates, SCHEMA, entity)
    else:
        assert id_parts(candidates, SCHEMA, entity) == parts


@pytest.mark.parametrize(
    ("entity", "per_candidate"), [("query_item", True), ("user_brand", True), ("user_session", False)]
)
def test_inputs_are_as_long_as_their_ids(entity: str, per_candidate: bool) -> None:
    program = compile_features(Profile("p", features=(Feature("x", f"{entity}.ctr"),)), SCHEMA, lambda text: 0)
    assert [i.per_candidate for i in program.inputs] == [per_candidate]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "store_item.ctr",
            "signals of `store_item` cannot be read here: `store` of its key cannot be told: the candidates",
        ),
        ("tagged.ctr", "`item.tags` of its key cannot be told: the candidates are of the entity `item`"),
        ("store.ctr", "signals of `store` cannot be read here: the candidates are of the entity `item`"),
        ("query_itme.ctr", "unknown namespace `query_itme`; did you mean `query_item`?"),
        ("query_item.cvr", "the entity `query_item` has no signal `cvr`"),
        ("session", "`session` is followed by a dot"),
    ],
)
def test_what_cannot_be_read_says_why(expression: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_features(Profile("p", features=(Feature("x", expression),)), SCHEMA, lambda text: 0)
    assert message in str(caught.value)
