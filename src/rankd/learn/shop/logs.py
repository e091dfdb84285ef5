"""Signals from clicks: what the shop can know without being told the truth.

Position bias is measured on the shuffled sessions, where every product is as likely at every
position: the click-through rate at a position over that at the first is then the chance that
the position is looked at (Joachims et al., WSDM 2017, with a full shuffle). Clicks are divided by
the looks expected, not by impressions ("clicks over expected clicks").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd.learn.shop.behaviour import SHOWN, Session, Shop
from rankd.learn.shop.catalogue import AUDIENCES, BRANDS, CATEGORIES

_PRIOR_LOOKS = 8.0


def position_bias(sessions: Sequence[Session]) -> NDArray[np.float64]:
    """The chance that a position is looked at, relative to the first: float64 (SHOWN,).

    A power of the position, fitted to the shuffled sessions' click counts by least squares on logs.
    """
    clicks, impressions = np.zeros(SHOWN), np.zeros(SHOWN)
    for session in sessions:
        if session.shuffled:
            clicks[: len(session.shown)] += session.clicked
            impressions[: len(session.shown)] += 1
    positions = np.log(np.arange(SHOWN) + 1.0)
    rate = np.log((clicks + 0.5) / (impressions + 1.0))
    slope = np.polyfit(positions, rate, 1, w=np.sqrt(clicks + 0.5))[0]
    return np.asarray(np.exp(min(slope, 0.0) * positions), np.float64)


def item_rows(shop: Shop, sessions: Sequence[Session]) -> list[dict[str, Any]]:
    """What `rankd load --entity item` takes: one object per product; absent is missing."""
    bias = position_bias(sessions)
    clicks, looks = np.zeros(len(shop.catalogue)), np.zeros(len(shop.catalogue))
    for session in sessions:
        np.add.at(clicks, session.shown, session.clicked)
        np.add.at(looks, session.shown, bias[: len(session.shown)])
    overall = clicks.sum() / looks.sum()
    appeal = (clicks + _PRIOR_LOOKS * overall) / (looks + _PRIOR_LOOKS)
    c, names, rows = shop.catalogue, list(CATEGORIES), []
    for number, identifier in enumerate(c.ids):
        row: dict[str, Any] = {
            "id": identifier,
            "title": c.titles[number],
            "brand": BRANDS[c.brand[number]],
            "category": names[c.category[number]],
            "audience": AUDIENCES[c.audience[number]],
            "price": round(float(c.price[number]), 2),
            "price_level": round(float(c.price_level[number]), 4),
            "released": int(c.released_s[number]) * 1000,
            "in_stock": bool(c.in_stock[number]),
            "reviews": int(c.reviews[number]),
            "clicks": int(clicks[number]),
        }
        if c.reviews[number]:
            row["rating"] = float(c.rating[number])
        if looks[number] > 0:
            row["appeal"] = round(float(appeal[number]), 5)
        rows.append(row)
    return rows


def user_rows(shop: Shop, sessions: Sequence[Session]) -> list[dict[str, Any]]:
    """What `rankd load --entity user` takes: tastes as far as clicks show them; quiet users are not there."""
    c = shop.catalogue
    clicked: dict[int, list[int]] = {}
    for session in sessions:
        clicked.setdefault(session.user, []).extend(session.shown[session.clicked].tolist())
    rows = []
    for user in sorted(clicked):
        products = clicked[user]
        if not products:
            continue
        brands = Counter(BRANDS[c.brand[number]] for number in products)
        audiences = Counter(AUDIENCES[c.audience[number]] for number in products)
        rows.append(
            {
                "id": shop.users.ids[user],
                "brands": {brand: round(count / len(products), 4) for brand, count in sorted(brands.items())},
                "audiences": {name: round(count / len(products), 4) for name, count in sorted(audiences.items())},
                "price_level": round(float(np.mean(c.price_level[products])), 4),
                "clicks": len(products),
            }
        )
    return rows
