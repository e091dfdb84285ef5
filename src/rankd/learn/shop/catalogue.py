"""Products of the simulated shop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOW_S = 1_767_225_600.0
"""2026-01-01T00:00:00Z, the shop's today: ages do not depend on when the demo runs."""

DAY_S = 86_400.0

CATEGORIES: dict[str, float] = {
    "running shoes": 110, "hiking boots": 160, "climbing shoes": 120, "tent": 280, "sleeping bag": 150,
    "backpack": 120, "rain jacket": 140, "down jacket": 210, "fleece jacket": 80, "trekking poles": 65,
    "headlamp": 48, "camping stove": 75, "water bottle": 24, "bike helmet": 85, "cycling jersey": 62,
    "climbing harness": 78, "ski goggles": 95, "winter gloves": 45, "wool socks": 19, "sunglasses": 90,
}  # fmt: skip
"""Typical price in euros."""

ACCESSORIES: dict[str, tuple[str, float]] = {
    "tent": ("footprint", 35), "hiking boots": ("laces", 7), "running shoes": ("insoles", 18),
    "backpack": ("rain cover", 22), "water bottle": ("cap", 8), "ski goggles": ("case", 16),
    "trekking poles": ("rubber tips", 9), "bike helmet": ("padding", 12), "sunglasses": ("strap", 10),
    "sleeping bag": ("compression sack", 20),
}  # fmt: skip
"""Things whose titles hold a category's words although nobody who types them means these."""

BRANDS = (
    "Alpkamm", "Birkfell", "Cordillo", "Drumlin", "Eskfjord", "Fernwey", "Granitta", "Halvdan", "Isarwerk",
    "Juniper & Oak", "Kestrel", "Lomvi", "Moraine", "Nordhang", "Outwald", "Peakline", "Quarrier", "Ridgeway",
    "Skarvan", "Tarnfell", "Uplandia", "Vintertop", "Wildbach", "Zirbel",
)  # fmt: skip
SERIES = ("Vela", "Orbit", "Nimbus", "Trace", "Pulse", "Summit", "Drift", "Ember", "Glide", "Terra", "Flux", "Echo")
TRAITS = ("waterproof", "ultralight", "insulated", "breathable", "recycled", "compact", "reflective", "windproof")
COLOURS = ("black", "blue", "green", "red", "orange", "grey", "yellow", "purple")
AUDIENCES = ("women", "men", "kids", "unisex")


@dataclass(frozen=True)
class Catalogue:
    """Columns over products; the position in them is the simulator's own product number.

    Seen by the shop: ids to `reviews`. Hidden: `quality`, of which ratings are a noisy view.
    `category`, `brand`, `trait`, `colour`, `audience`: codes into the tuples above. `accessory`: it
    belongs to the category in title only. `price_level`: log price, z-scored within the category.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    category: NDArray[np.int64]
    accessory: NDArray[np.bool_]
    brand: NDArray[np.int64]
    trait: NDArray[np.int64]
    colour: NDArray[np.int64]
    audience: NDArray[np.int64]
    price: NDArray[np.float64]
    price_level: NDArray[np.float64]
    released_s: NDArray[np.float64]
    in_stock: NDArray[np.bool_]
    rating: NDArray[np.float64]
    reviews: NDArray[np.int64]
    quality: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)


def make_catalogue(count: int, seed: int) -> Catalogue:
    """`count` products. Brands have a price tier and a quality that goes with it, loosely."""
    g = np.random.default_rng([seed, 1])
    names = list(CATEGORIES)
    tier = g.normal(0, 0.35, len(BRANDS))
    brand_quality = 0.6 * tier / 0.35 + 0.8 * g.normal(size=len(BRANDS))
    category = g.integers(0, len(names), count)
    accessory = (g.random(count) < 0.15) & np.isin(category, [names.index(name) for name in ACCESSORIES])
    brand, trait = g.integers(0, len(BRANDS), count), g.integers(0, len(TRAITS), count)
    colour, audience = g.integers(0, len(COLOURS), count), g.choice(len(AUDIENCES), count, p=[0.33, 0.33, 0.14, 0.2])
    quality = 0.6 * brand_quality[brand] + 0.8 * g.normal(size=count)
    own = np.array(list(CATEGORIES.values()))
    extra = np.array([ACCESSORIES[name][1] if name in ACCESSORIES else np.nan for name in names])
    typical = np.where(accessory, extra[category], own[category])
    price = np.round(typical * np.exp(tier[brand] + 0.08 * quality + g.normal(0, 0.25, count))) - 0.05
    price = np.maximum(price, 1.95)
    reviews = np.floor(np.exp(g.normal(1.8, 1.4, count))).astype(np.int64)
    spread = 0.9 / np.sqrt(np.maximum(reviews, 1))
    rating = np.clip(3.7 + 0.55 * quality + g.normal(0, 1, count) * spread, 1, 5)
    return Catalogue(
        ids=tuple(f"p{number:04d}" for number in range(count)),
        titles=tuple(
            _title(names[category[i]], bool(accessory[i]), brand[i], trait[i], colour[i], audience[i], g)
            for i in range(count)
        ),
        category=category,
        accessory=accessory,
        brand=brand,
        trait=trait,
        colour=colour,
        audience=audience,
        price=price,
        price_level=_within(np.log(price), category),
        released_s=NOW_S - DAY_S * np.round(g.gamma(1.5, 260, count)),
        in_stock=g.random(count) < 0.92,
        rating=np.where(reviews > 0, np.round(rating, 1), np.nan),
        reviews=reviews,
        quality=quality,
    )


def _title(
    category: str, accessory: bool, brand: int, trait: int, colour: int, audience: int, g: np.random.Generator
) -> str:
    series = f"{SERIES[g.integers(len(SERIES))]} {g.integers(2, 10)}"
    if accessory:
        return f"{BRANDS[brand]} {category} {ACCESSORIES[category][0]}"
    words = [BRANDS[brand], series, TRAITS[trait], category]
    if AUDIENCES[audience] != "unisex":
        words.append(AUDIENCES[audience])
    return " ".join([*words, COLOURS[colour]])


def _within(values: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """z-scores within groups."""
    counts = np.maximum(np.bincount(groups), 1)
    means = np.bincount(groups, values) / counts
    deviations = np.sqrt(np.bincount(groups, (values - means[groups]) ** 2) / counts)
    return np.asarray((values - means[groups]) / np.maximum(deviations[groups], 1e-9), np.float64)
