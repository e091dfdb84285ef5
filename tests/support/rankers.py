"""The server's ranker with something done before each call, here or on a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rankd.ranking.ranker import Method, Pending, Ranked
from rankd.server.server import Server


class HookedRanker:
    """Does `act`, then what the ranker would. `on_thread`: as a long call."""

    def __init__(self, ranker: Any, act: Callable[[], object], on_thread: bool) -> None:
        self.plans = ranker.plans
        self._ranker = ranker
        self._act = act
        self._on_thread = on_thread

    def rank(self, method: Method, data: bytes, **options: Any) -> Ranked | Pending:
        """As Ranker.rank."""
        options.pop("inline_cost")

        def work() -> Ranked:
            self._act()
            done: Ranked = self._ranker.rank(method, data, **options)
            return done

        return _Hooked(work) if self._on_thread else work()


class _Hooked(Pending):
    def __init__(self, work: Callable[[], Ranked]) -> None:
        self.cost = 5e6
        self.wanted = {}
        self.run = work  # type: ignore[method-assign]


def hook(server: Server, act: Callable[[], object], on_thread: bool = False) -> None:
    """Every call that `server` ranks from now on does `act` first."""
    ranking: Any = server._ranking
    ranking.replace(HookedRanker(ranking._ranker, act, on_thread))
