"""A small world for the compiled path: profiles with inputs of every kind, and rows to rank from."""

from __future__ import annotations

import itertools

import numpy as np
from support.serving import SEARCH

from rankd.kernels.forest import Forest
from rankd.models.forest import ForestScorer
from rankd.models.linear import LinearScorer
from rankd.models.objective import IDENTITY, Transform
from rankd.models.scorer import LoadedModel
from rankd.ranking.build import build_plan
from rankd.ranking.plan import Plan
from rankd.signals.store import (
    ColumnValues,
    ListValues,
    MapValues,
    SetValues,
    SignalStore,
    WindowValues,
    WriteBatch,
)
from rankd.types.profile import ContextFeature, ContextKind, Feature, Profile
from rankd.types.schema import Entity, Prior, Schema, Signal, SignalKind
from rankd.types.text import composite_id, query_key

ITEM_SIGNALS = (
    Signal("price", SignalKind.F32),
    Signal("stock", SignalKind.I64, default=7.0),
    Signal("listed", SignalKind.TIMESTAMP),
    Signal("fresh", SignalKind.BOOL, ttl_s=1000.0),
    Signal("brand", SignalKind.CATEGORY),
    Signal("title", SignalKind.STRING),
    Signal("vector", SignalKind.EMBEDDING, dimension=3),
    Signal("tags", SignalKind.SET),
    Signal("weights", SignalKind.MAP),
    Signal("heat", SignalKind.COUNTER, half_life_s=500.0, ttl_s=3000.0),
    Signal("clicks", SignalKind.WINDOW, window_s=1000.0, bucket_s=100.0),
    Signal("shown", SignalKind.WINDOW, window_s=1000.0, bucket_s=100.0, ttl_s=4000.0),
    Signal("rate", SignalKind.RATIO, ratio_of=("clicks", "shown"), prior=Prior(0.1, 10.0)),
    Signal("mood", SignalKind.MAP, half_life_s=800.0),
    Signal("seen", SignalKind.LIST, dimension=3),
)
USER_SIGNALS = (
    Signal("age", SignalKind.F32),
    Signal("brand", SignalKind.CATEGORY),
    Signal("taste", SignalKind.MAP),
    Signal("vector", SignalKind.EMBEDDING, dimension=3),
)
QUERY_SIGNALS = (Signal("ctr", SignalKind.F32), Signal("words", SignalKind.STRING))
JOINED_SIGNALS = (
    Signal("ctr", SignalKind.F32, ttl_s=1000.0), Signal("brand", SignalKind.CATEGORY),
    Signal("words", SignalKind.STRING), Signal("vector", SignalKind.EMBEDDING, dimension=3),
)  # fmt: skip

SIGNALS = {
    "item": ITEM_SIGNALS,
    "user": USER_SIGNALS,
    "query": QUERY_SIGNALS,
    "session": USER_SIGNALS,
    "query_item": JOINED_SIGNALS,
    "user_brand": JOINED_SIGNALS,
    "brand_query_session": JOINED_SIGNALS,
    "user_query": JOINED_SIGNALS,
    "user_user": JOINED_SIGNALS,
}
KEYS = {
    "query_item": ("query", "item"),
    "user_brand": ("user", "item.brand"),
    "brand_query_session": ("item.brand", "query", "session"),
    "user_query": ("user", "query"),
    "user_user": ("user", "user"),
}

SCHEMA = Schema(
    {
        name: Entity(name, {signal.name: signal for signal in signals}, KEYS.get(name, ()))
        for name, signals in SIGNALS.items()
    }
)

CONTEXT = {**SEARCH.context, "unused": ContextFeature("unused", ContextKind.TEXT)}

FEATURES = {
    "price": "item.price",
    "stock": "item.stock",
    "age": "age_days(item.listed)",
    "fresh": "where(item.fresh, 1, 0)",
    "same_brand": "where(item.brand == context.device, 2, 1)",
    "user_brand": "where(item.brand == user.brand, 2, 1)",
    "words": "token_overlap(request.query, item.title)",
    "note": "token_overlap(context.note, item.title)",
    "taste": "cosine(context.taste, item.vector)",
    "user_taste": "dot(user.vector, item.vector)",
    "liked": "overlap(context.likes, item.tags)",
    "member": "contains(request.segments, item.brand)",
    "weight": "lookup(user.taste, item.brand, 0.25)",
    "own": "lookup(item.weights, context.device)",
    "hour": "context.hour",
    "vip": "context.vip",
    "since": "request.now - context.since",
    "user_age": "user.age",
    "query_ctr": "query.ctr",
    "query_words": "token_overlap(query.words, item.title)",
    "bm25": "column.bm25",
    "ctr": "column.ctr",
    "base": "candidate.base_score",
    "position": "candidate.position",
    "language": 'where(request.language == "de", 1, 0)',
    "surface": 'where(request.surface == "search", 1, 0)',
    "ranked": "list_rank(column.bm25)",
    "session_age": "session.age",
    "session_taste": "lookup(session.taste, item.brand)",
    "pair_ctr": "query_item.ctr",
    "pair_words": "token_overlap(request.query, query_item.words)",
    "pair_brand": "where(query_item.brand == item.brand, 2, 1)",
    "pair_taste": "dot(user.vector, query_item.vector)",
    "brand_ctr": "user_brand.ctr",
    "brand_words": "token_overlap(request.query, user_brand.words)",
    "triple_ctr": "brand_query_session.ctr",
    "user_query_ctr": "user_query.ctr",
    "heat": "item.heat",
    "clicks": "item.clicks",
    "rate": "item.rate",
    "mood": "lookup(item.mood, item.brand)",
    "seen": "contains(item.seen, item.brand)",
    "user_user": "where(user_user.brand == item.brand, 2, 1)",
}

EVERYTHING = Profile(
    "everything",
    columns=("bm25", "ctr", "unused"),
    context=CONTEXT,
    features=tuple(Feature(name, expression) for name, expression in FEATURES.items()),
    base="coalesce(bm25, 0) + coalesce(words, 0) + 0 * candidate.position",
    model="forest",
    rerank_count=4,
)
PROFILES = (
    EVERYTHING,
    Profile("whole", columns=("bm25",), features=(Feature("price", "item.price"), Feature("bm25", "column.bm25")),
            base="bm25", model="linear"),
    Profile("sent", columns=("bm25",), features=(Feature("bm25", "column.bm25"), Feature("price", "item.price")),
            model="linear", rerank_count=3),
    Profile("plain", columns=("bm25",), features=(Feature("bm25", "column.bm25"),)),
    Profile("base", columns=("bm25",), features=(Feature("price", "item.price"),), base="-price"),
    Profile("classes", columns=("bm25",), features=(Feature("bm25", "column.bm25"),), model="classes"),
    Profile("queries", entity="query", features=(Feature("ctr", "query.ctr"),), base="ctr"),
    Profile("people", entity="user", features=(Feature("age", "user.age"), Feature("own", "user_query.ctr"),
            Feature("twice", "user_user.ctr")), base="age"),
    Profile("joined", features=(Feature("brand_ctr", "user_brand.ctr"),), base="query_item.ctr"),
)  # fmt: skip


def stumps(features: int, outputs: int, trees: int, seed: int) -> Forest:
    """A forest of trees with one node each."""
    random = np.random.default_rng(seed)
    return Forest(
        features=features, outputs=outputs, node_begin=np.arange(trees + 1, dtype=np.uint32),
        split_feature=random.integers(0, features, trees).astype(np.int32),
        decision=np.full(trees, 2 << 2, np.uint8), threshold=random.integers(-2, 3, trees) / 2.0,
        category_set=np.zeros(trees, np.int32), left=np.full(trees, -1, np.int32), right=np.full(trees, -2, np.int32),
        leaf_value=random.integers(-3, 4, 2 * trees) / 4.0,
        set_begin=np.zeros(1, np.uint32), set_words=np.zeros(0, np.uint32),
    )  # fmt: skip


def models() -> dict[str, LoadedModel]:
    """One of each family; the forest takes the features in another order than the profile."""
    names = tuple(sorted(FEATURES))
    scorers = {
        "forest": ForestScorer(stumps(len(names), 1, 40, 1), names, Transform("sigmoid"), 4, scale=0.5),
        "linear": LinearScorer({"bm25": 0.75, "price": -0.5}, 0.125, "identity", {"price": 2.0}),
        "classes": ForestScorer(stumps(1, 3, 6, 2), ("bm25",), IDENTITY),
    }
    return {name: LoadedModel(name, f"{name}@0123456789ab", scorer) for name, scorer in scorers.items()}


def plans(store: SignalStore) -> dict[str, Plan]:
    """Every profile, by name."""
    return {p.name: build_plan(p, SCHEMA, store.categories, models()) for p in PROFILES}


NOW_S = 1_700_000_000.25
"""About when what changes with time is read."""

ITEMS = [f"item-{i}" for i in range(12)] + ["ünïcode", "x" * 300]
USERS = ["ann", "bob"]
QUERIES = ["red shoe", "größe"]
SESSIONS = ["s1", "s2"]
BRANDS = ["acme", "bolt", "größe"]


async def fill(store: SignalStore) -> None:
    """Rows of every entity, with gaps."""
    none = np.empty(0, np.int64)
    n = len(ITEMS)
    every, some = np.arange(n), np.arange(0, n, 2)
    prices = (np.arange(n, dtype=np.float32) % 5) / 2
    vectors = (np.arange(3 * n, dtype=np.float32).reshape(n, 3) % 7) - 3
    titles = ["Red Shoe", "Blue shoe, wide", "GRÖSSE red", ""] * n
    await store.write(
        WriteBatch(
            "item",
            ITEMS,
            [
                ColumnValues("price", every, prices, none),
                ColumnValues("stock", some, np.arange(len(some)), none),
                ColumnValues("listed", every, np.arange(n) * 86_400_000, none),
                ColumnValues("fresh", every, np.arange(n) % 3 == 0, none),
                ColumnValues("brand", every, [BRANDS[i % 3] for i in range(n)], none),
                ColumnValues("title", some, titles[: len(some)], none),
                ColumnValues("vector", every, vectors, none),
                ColumnValues("tags", some, SetValues(["acme", "new"] * len(some), np.full(len(some), 2)), none),
                ColumnValues(
                    "weights",
                    some,
                    MapValues(["phone"] * len(some), some.astype(np.float32), np.ones(len(some), np.int64)),
                    none,
                ),
            ],
        )
    )
    await store.write(WriteBatch("item", ITEMS[:5], [ColumnValues("price", every[:4], prices[:4], every[4:5])]))
    two = np.arange(2)
    taste = MapValues(["acme", "größe", "bolt"], np.array([1, 2, 3], np.float32), np.array([2, 1]))
    await store.write(
        WriteBatch(
            "user",
            USERS,
            [
                ColumnValues("age", two, np.array([30, 40], np.float32), none),
                ColumnValues("brand", two, ["bolt", "acme"], none),
                ColumnValues("taste", two, taste, none),
                ColumnValues("vector", two, np.array([[1, 0, 2], [0, 1, 0]], np.float32), none),
            ],
        )
    )
    await _fill_joined(store)
    await _fill_changing(store)
    await store.write(
        WriteBatch(
            "session",
            SESSIONS,
            [
                ColumnValues("age", two, np.array([3, 4], np.float32), none),
                ColumnValues("taste", two, taste, none),
            ],
        )
    )
    await store.write(
        WriteBatch(
            "query",
            QUERIES,
            [
                ColumnValues("ctr", two, np.array([0.5, 0.25], np.float32), none),
                ColumnValues("words", two, ["Red things", "größe"], none),
            ],
        )
    )


async def _fill_joined(store: SignalStore) -> None:
    """Most of what the parts of keys can make together, with gaps."""
    values = {
        "query": [query_key(text) for text in QUERIES], "item": ITEMS, "user": USERS,
        "session": SESSIONS, "item.brand": BRANDS,
    }  # fmt: skip
    none = np.empty(0, np.int64)
    for entity, key in KEYS.items():
        every = list(dict.fromkeys(composite_id(one) for one in itertools.product(*(values[part] for part in key))))
        ids = [one for i, one in enumerate(every) if i % 5]
        n = len(ids)
        all_, some = np.arange(n), np.arange(0, n, 2)
        columns = [
            ColumnValues("ctr", all_, (np.arange(n, dtype=np.float32) % 7) / 4, none),
            ColumnValues("brand", some, [BRANDS[i % 3] for i in range(len(some))], none),
            ColumnValues("words", some, ["Red things" if i % 2 else "GRÖSSE" for i in range(len(some))], none),
            ColumnValues("vector", all_, np.arange(3 * n, dtype=np.float32).reshape(n, 3) % 5 - 2, none),
        ]
        await store.write(WriteBatch(entity, ids, columns))


async def _fill_changing(store: SignalStore) -> None:
    """What reads differently as time goes by, written by the store's clock."""
    none = np.empty(0, np.int64)
    n = len(ITEMS)
    some = np.arange(1, n, 2)
    ones = np.ones(len(some), np.int64)
    first = int(NOW_S) // 100 - 25
    windows = WindowValues(
        np.tile(np.arange(first, first + 30, 3, dtype=np.int32), n), np.arange(10 * n, dtype=np.float32) % 4,
        np.full(n, 10),
    )  # fmt: skip
    seen = ListValues(["acme"] * len(some), some * 1000, ones)
    columns = [
        ColumnValues("heat", some, some / 4, none),
        ColumnValues("clicks", np.arange(n), windows, none),
        ColumnValues("shown", np.arange(n), windows, none),
        ColumnValues("mood", some, MapValues(["acme"] * len(some), some.astype(np.float32), ones), none),
        ColumnValues("seen", some, seen, none),
    ]
    await store.write(WriteBatch("item", ITEMS, columns))
