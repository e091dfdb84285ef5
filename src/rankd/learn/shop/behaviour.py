"""What people want (hidden) and what they click (seen).

Clicks follow the position-based model (Craswell et al., WSDM 2008): a result is clicked if its
position was looked at, which is less likely the lower it stands, and it pleased. So clicks say
as much about the old order as about the products; whoever learns from them has to allow for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankd.learn.shop.catalogue import AUDIENCES, DAY_S, NOW_S, Catalogue
from rankd.learn.shop.people import NONE, ShopQuery, Users
from rankd.learn.shop.retrieval import Bm25

SHOWN = 20
RETRIEVED = 100
_EXAMINED = (np.arange(SHOWN) + 1.0) ** -0.7
_CLICK_BY_GRADE = np.array([0.03, 0.08, 0.18, 0.4, 0.7])
_UNISEX = AUDIENCES.index("unisex")


@dataclass(frozen=True)
class Session:
    """One search: `shown` product numbers in the order shown, which of them were clicked, and
    whether the order was shuffled on purpose (a little of the traffic, to measure position bias)."""

    user: int
    query: int
    shown: NDArray[np.int64]
    clicked: NDArray[np.bool_]
    shuffled: bool


class Shop:
    """Catalogue, people and search engine together."""

    def __init__(self, catalogue: Catalogue, users: Users, queries: Sequence[ShopQuery]) -> None:
        self.catalogue, self.users, self.queries = catalogue, users, queries
        engine = Bm25(catalogue.titles)
        self.retrieved = [engine.search(query.text, RETRIEVED) for query in queries]
        """Per query: product numbers and BM25 scores, best first."""
        self._thresholds = self._grade_thresholds()

    def grades(self, user: int, query: int, products: NDArray[np.int64]) -> NDArray[np.int64]:
        """True relevance 0 to 4 to this user with this query. For evaluation only."""
        pleasure, fits = self._pleasure(user, query, products)
        return np.where(fits, 1 + np.searchsorted(self._thresholds, pleasure), 0).astype(np.int64)

    def sessions(self, count: int, queries: Sequence[int], shuffled_share: float, seed: int) -> list[Session]:
        """`count` searches for some of the queries, answered in the shop's old order: BM25, a little stirred."""
        g = np.random.default_rng([seed, 4])
        weights = np.array([self.queries[query].weight for query in queries])
        drawn = g.choice(np.asarray(queries), count, p=weights / weights.sum())
        made = []
        for query in drawn.tolist():
            user = int(g.integers(len(self.users.ids)))
            numbers, scores = self.retrieved[query]
            order = np.argsort(-(scores + g.normal(0, 0.3 * scores.std() + 0.2, len(scores))), kind="stable")
            shown = numbers[order[:SHOWN]]
            shuffled = bool(g.random() < shuffled_share)
            if shuffled:
                shown = g.permutation(shown)
            chance = _EXAMINED[: len(shown)] * _CLICK_BY_GRADE[self.grades(user, query, shown)]
            made.append(Session(user, query, shown, g.random(len(shown)) < chance, shuffled))
        return made

    def _pleasure(
        self, user: int, query: int, products: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """How much each product pleases, and whether it is at all what was asked for."""
        c, wish = self.catalogue, self.queries[query]
        fits = (c.category[products] == wish.category) & ~c.accessory[products]
        pleasure = 0.9 * c.quality[products] + 0.7 * self.users.brand_taste[user, c.brand[products]]
        pleasure -= self.users.thrift[user] * np.abs(c.price_level[products] - self.users.price_level[user])
        pleasure += 0.5 * np.exp2((c.released_s[products] - NOW_S) / (365 * DAY_S))
        pleasure -= 3.0 * ~c.in_stock[products]
        for wanted, have in ((wish.brand, c.brand), (wish.trait, c.trait), (wish.colour, c.colour)):
            if wanted != NONE:
                pleasure = pleasure + np.where(have[products] == wanted, 1.0, -1.5)
        audience = wish.audience if wish.audience != NONE else self.users.audience[user]
        suits = (c.audience[products] == audience) | (c.audience[products] == _UNISEX)
        return pleasure - np.where(suits, 0.0, 1.5), fits

    def _grade_thresholds(self) -> NDArray[np.float64]:
        """Where grades 2, 3 and 4 begin: fixed shares of all that fits."""
        g = np.random.default_rng(5)
        samples = []
        for query in range(len(self.queries)):
            pleasure, fits = self._pleasure(int(g.integers(len(self.users.ids))), query, self.retrieved[query][0])
            samples.append(pleasure[fits])
        return np.quantile(np.concatenate(samples), [0.5, 0.78, 0.93])
