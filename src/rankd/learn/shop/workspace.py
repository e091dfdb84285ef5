"""The shop's rankd.yaml, and its judged lists: clicks to learn from, true relevance to measure with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rankd.learn.judgments import JudgedList
from rankd.learn.shop.behaviour import Session, Shop
from rankd.learn.shop.catalogue import NOW_S

PROFILE = "search"
MODEL_FILE = "models/shop.txt"

_YAML = """\
# The demo's shop. `rankd check` and `rankd serve` work here as in any other workspace.
version: 1

schema:
  item:
    title: string
    brand: category
    category: category
    audience: category
    price: f32
    price_level: f32 # log price, z-score within the category
    released: timestamp
    in_stock: bool
    rating: f32 # missing until somebody has rated it
    reviews: i64
    clicks: i64
    appeal: f32 # clicks over the looks expected at the positions it was shown at
  user:
    brands: map # share of clicks by brand
    audiences: map # share of clicks by audience
    price_level: f32 # mean of what was clicked
    clicks: i64

profiles:
  search:
    features:
      bm25: candidate.base_score
      bm25_above: candidate.base_score - list_mean(candidate.base_score)
      overlap: token_overlap(request.query, item.title)
      words: token_count(item.title)
      trigrams: trigram_similarity(request.query, item.title)
      appeal: item.appeal
      clicks: log1p(item.clicks)
      rating: item.rating
      reviews: log1p(item.reviews)
      price_level: item.price_level
      price_rank: list_rank(item.price)
      price_gap: abs(item.price_level - user.price_level)
      brand_taste: lookup(user.brands, item.brand, 0)
      brand_clicks: lookup(user.brands, item.brand, 0) * user.clicks
      audience_taste: lookup(user.audiences, item.audience, 0)
      newness: decay(item.released, "365d")
      in_stock: item.in_stock
    # What one would write by hand: text first, then what is liked, new and there.
    base: list_zscore(candidate.base_score) + 3 * coalesce(appeal, 0.1) + 0.5 * newness - 2 * (in_stock == 0)
"""

_MODEL = f"""\
    rerank: 50 # the model saw the best of lists, so it orders the best of lists
    model: shop

models:
  shop: {{file: {MODEL_FILE}}}
"""


def workspace_yaml(with_model: bool) -> str:
    """rankd.yaml, before or after there is a model."""
    return _YAML + _MODEL if with_model else _YAML


def clicked_lists(shop: Shop, sessions: Sequence[Session]) -> list[JudgedList]:
    """Sessions as judgments: what was shown is graded 1 if clicked, else 0, with its position; what was
    retrieved but not shown goes along ungraded."""
    lists = []
    for number, session in enumerate(sessions):
        if not session.clicked.any():
            continue  # no order to learn from
        products, scores = shop.retrieved[session.query]
        score_of = dict(zip(products.tolist(), scores.tolist(), strict=True))
        shown = session.shown.tolist()
        rest = [product for product in products.tolist() if product not in set(shown)]
        order = [*shown, *rest]
        grades = np.full(len(order), np.nan)
        grades[: len(shown)] = session.clicked
        lists.append(
            JudgedList(
                key=f"session {number}",
                query=shop.queries[session.query].text,
                user=shop.users.ids[session.user],
                ids=tuple(shop.catalogue.ids[product] for product in order),
                grades=grades,
                base_scores=np.array([score_of[product] for product in order]),
                positions=np.arange(1, len(order) + 1),
                as_of_s=NOW_S,
            )
        )
    return lists


def true_lists(shop: Shop, queries: Sequence[int], users_per_query: int, seed: int) -> list[JudgedList]:
    """What the search engine retrieves for some queries, with true relevance to users drawn at random."""
    g = np.random.default_rng([seed, 6])
    users = [g.choice(len(shop.users.ids), users_per_query, replace=False).tolist() for _ in queries]
    return [true_list(shop, query, user) for query, drawn in zip(queries, users, strict=True) for user in drawn]


def true_list(shop: Shop, query: int, user: int) -> JudgedList:
    """What the search engine retrieves for a query, with true relevance to a user."""
    products, scores = shop.retrieved[query]
    text, name = shop.queries[query].text, shop.users.ids[user]
    return JudgedList(
        key=f"{text}/{name}",
        query=text,
        user=name,
        ids=tuple(shop.catalogue.ids[product] for product in products.tolist()),
        grades=shop.grades(user, query, products).astype(np.float64),
        base_scores=scores,
        as_of_s=NOW_S,
    )
