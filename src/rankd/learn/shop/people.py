"""Users with tastes, and the queries they type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankd.learn.shop.catalogue import AUDIENCES, BRANDS, CATEGORIES, COLOURS, TRAITS

NONE = -1
"""No wish for this attribute."""


@dataclass(frozen=True)
class Users:
    """Hidden tastes. `brand_taste` (users, brands), standard normal with few loves; `price_level`: the
    z-score of price they like best; `thrift`: how much a step away from it costs; `audience` codes."""

    ids: tuple[str, ...]
    brand_taste: NDArray[np.float64]
    price_level: NDArray[np.float64]
    thrift: NDArray[np.float64]
    audience: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ShopQuery:
    """What was typed and what was meant; codes, NONE where there was no wish. `weight`: how often."""

    text: str
    category: int
    brand: int
    trait: int
    colour: int
    audience: int
    weight: float


def make_users(count: int, seed: int) -> Users:
    """`count` users; each loves three brands and is near indifferent to the others."""
    g = np.random.default_rng([seed, 2])
    taste = g.normal(0, 0.5, (count, len(BRANDS)))
    for row in taste:
        row[g.choice(len(BRANDS), 3, replace=False)] += 2.0
    return Users(
        ids=tuple(f"u{number:03d}" for number in range(count)),
        brand_taste=taste,
        price_level=g.normal(0, 0.8, count),
        thrift=g.uniform(0.2, 0.9, count),
        audience=g.choice(3, count, p=[0.45, 0.45, 0.1]),
    )


def make_queries(count: int, seed: int) -> list[ShopQuery]:
    """`count` distinct queries, in random order, with the long tail of real query logs."""
    g = np.random.default_rng([seed, 3])
    names = list(CATEGORIES)
    found: dict[str, ShopQuery] = {}
    while len(found) < count:
        category, brand, trait, colour, audience = int(g.integers(len(names))), NONE, NONE, NONE, NONE
        words = [names[category]]
        form = g.choice(6, p=[0.1, 0.25, 0.2, 0.15, 0.15, 0.15])
        if form in (1, 5):
            trait = int(g.integers(len(TRAITS)))
            words.insert(0, TRAITS[trait])
        if form in (2, 5):
            audience = int(g.integers(3))
            words.append(AUDIENCES[audience])
        if form == 3:
            brand = int(g.integers(len(BRANDS)))
            words.insert(0, BRANDS[brand].lower())
        if form == 4:
            colour = int(g.integers(len(COLOURS)))
            words.insert(0, COLOURS[colour])
        text = " ".join(words)
        found.setdefault(text, ShopQuery(text, category, brand, trait, colour, audience, 0.0))
    weights = 1 / (np.arange(count) + 5.0) ** 0.8
    return [
        ShopQuery(q.text, q.category, q.brand, q.trait, q.colour, q.audience, float(weight))
        for q, weight in zip(found.values(), weights / weights.sum(), strict=True)
    ]
