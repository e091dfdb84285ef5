"""What the demo prints: for a terminal of 100 columns, and plain where it is piped.

Must live here: words and tables. Must not: anything that decides a number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rankd.client import RankedList
    from rankd.learn.evaluation import Evaluation
    from rankd.learn.judgments import JudgedList
    from rankd.learn.shop.behaviour import Session, Shop
    from rankd.learn.training import Trained, TrainingRows
    from rankd.telemetry.receiver import TraceReceiver

WIDTH = 100
PRODUCT_WIDTH = 37
SHOWN_BASE, SHOWN_RANKED = 5, 8
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
_STAGES = 5


class Report:
    """Prints to a console; `step` times what happens within it."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        if screen.is_terminal and screen.width > WIDTH:
            screen.width = WIDTH

    def line(self, text: str = "", style: str = "") -> None:
        """One line; `text` is data, not markup."""
        self._screen.print(Text(text, style=style), soft_wrap=True)

    @contextmanager
    def step(self, title: str, timed: bool = True) -> Iterator[None]:
        """Prints the title now and, at the end, how long it took."""
        started = time.perf_counter()
        self.line(f"▸ {title}", "bold")
        yield
        if timed:
            self.line(f"  {time.perf_counter() - started:.1f} s", "dim")

    def title(self, seed: int) -> None:
        """The first lines."""
        self.line(f"rankd demo: a simulated outdoor shop (seed {seed})", "bold cyan")
        self.line("Everything below the shop itself is rankd as you would run it: a served process, over gRPC.\n")

    def shop(self, shop: Shop, past: Sequence[Session], logged: int) -> None:
        """What there is, and the position bias measured in its log."""
        from rankd.learn.shop.logs import position_bias

        clicks = sum(int(session.clicked.sum()) for session in past)
        self.line(
            f"  {len(shop.catalogue):,} products, {len(shop.users.ids)} users, {len(shop.queries)} queries "
            f"({logged} in the logs, {len(shop.queries) - logged} held out)"
        )
        bias = position_bias(past)
        self.line(f"  {len(past):,} past searches with {clicks:,} clicks, answered in the search engine's own order")
        self.line(
            "  chance that a position is looked at, from shuffled traffic: "
            + ", ".join(f"{position}: {bias[position - 1]:.2f}" for position in (1, 2, 5, 10))
        )

    def loaded(self, counts: dict[str, int]) -> None:
        """What is in the store, and on disk, now."""
        self.line("  " + ", ".join(f"{count:,} {entity}s" for entity, count in counts.items()) + " stored durably")

    def trained(self, trained: Trained, rows: TrainingRows) -> None:
        """What was learnt from, and which features mattered."""
        from rankd.cli.train import importance_lines

        self.line(
            f"  {trained.list_count:,} sessions with a click, {trained.row_count:,} products shown, "
            f"{int(rows.grades.sum()):,} clicks, {len(trained.feature_names)} features"
        )
        self.line("  Lists were shuffled and positions go along, so that a click at the top is not taken for more.")
        self.line("  Share of gain by feature:")
        for text in importance_lines(trained.feature_names, trained.importances.tolist(), shown=8):
            self.line("  " + text)

    def lists(self, shop: Shop, judged: JudgedList, answer: RankedList) -> None:
        """The first of the base order, and beside its base rank the first of the model's."""
        from rankd.learn.evaluation import base_order

        base = base_order(answer).tolist()
        base_rank = {index: rank for rank, index in enumerate(base, start=1)}
        order = answer.indexes.tolist()
        base_score = dict(zip(order, answer.base_scores.tolist(), strict=True))
        score = dict(zip(order, answer.scores.tolist(), strict=True))
        self.line(f'\n  "{judged.query}" for user {judged.user}, {len(judged.ids)} candidates', "bold")
        self.line("  wanted: true relevance to this user, 0 to 4; base: the rank in the base order", "dim")
        head = ("rank", "base", "move", "product", "brand", "price", "score", "wanted")
        first = [
            (str(rank), *self._product(shop, judged, index), f"{base_score[index]:.2f}", _stars(judged, index))
            for rank, index in enumerate(base[:SHOWN_BASE], start=1)
        ]
        self._table("base order", (head[0], *head[3:]), first)
        then = [
            (
                str(rank), str(base_rank[index]), _move(base_rank[index] - rank),
                *self._product(shop, judged, index), f"{score[index]:.2f}", _stars(judged, index),
            )
            for rank, index in enumerate(order[:SHOWN_RANKED], start=1)
        ]  # fmt: skip
        self._table("ranked by the model", head, then)

    def quality(self, result: Evaluation, sent: float) -> None:
        """Before and after on held-out queries, whichever wins."""
        from rankd.cli.evaluate import comparison_rows

        self.line(
            f"\n  {result.query_count} queries nobody had typed before, {result.list_count} lists, true relevance "
            "(only the simulator knows it)",
            "bold",
        )
        self._table("", ("measure", "base expression", "model", "difference", "+ / - / ="), comparison_rows(result))
        one = result.comparisons[0]
        low, high = one.difference.interval.low, one.difference.interval.high
        verdict = "no difference to be told"
        if one.difference.decided:
            verdict = "the model is better" if low > 0 else "the model is worse"
        self.line(
            f"  {one.name}: search engine {sent:.3f}, base expression {one.base.mean:.3f}, "
            f"model {one.ranked.mean:.3f}; {verdict}.",
            "bold green" if low > 0 else "bold red" if high < 0 else "bold yellow",
        )
        self.line("  [low, high]: 95 % bootstrap interval over queries; + / - / =: queries better, worse, the same.")

    def trace(self, receiver: TraceReceiver, call: Callable[[Sequence[tuple[str, str | bytes]]], None]) -> None:
        """One request as one trace, as an OTLP receiver got it."""
        from rankd.telemetry.receiver import format_tree

        call((("traceparent", f"00-{TRACE_ID}-00f067aa0ba902b7-01"),))
        receiver.wait(lambda spans: sum(span.trace_id == TRACE_ID for span in spans) > _STAGES, 20.0)
        self.line("\n  The first of these lists as one trace, received over OTLP", "bold")
        for text in format_tree(receiver.spans(TRACE_ID)).splitlines():
            for part in _wrapped(text):
                self.line("  " + part)

    def next_steps(self, workspace: Path | None, seconds: float) -> None:
        """Where to go from here."""
        self.line(f"\nDone in {seconds:.0f} s. Try next:", "bold cyan")
        if workspace is None:
            self.line("  rankd demo --dir shop        the same, and keep the workspace")
            self.line("  rankd init myshop            a workspace of your own, to start from")
            return
        self.line(f"  cd {workspace} && rankd serve     then, in another terminal, in the same directory:")
        self.line("  rankd rank --help            order some candidates, with scores and features")
        self.line("  rankd evaluate --profile search --judgments truth.jsonl")
        self.line("  rankd train --profile search --judgments clicks.jsonl --output models/shop.txt --trees 300")

    def _table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, title=title or None, title_justify="left")
        for name in head:
            right = name in ("rank", "base", "move", "price", "score")
            room = PRODUCT_WIDTH if name == "product" else None
            table.add_column(
                name, justify="right" if right else "left", no_wrap=True, overflow="ellipsis", max_width=room
            )
        for row in rows:
            table.add_row(*[Text(str(cell)) for cell in row])
        self._screen.print(table)
        self.line()

    def _product(self, shop: Shop, judged: JudgedList, index: int) -> tuple[str, str, str]:
        from rankd.learn.shop.catalogue import BRANDS

        number = int(judged.ids[index][1:])
        brand = BRANDS[shop.catalogue.brand[number]]
        return shop.catalogue.titles[number].removeprefix(brand + " "), brand, f"{shop.catalogue.price[number]:.2f}"


def _wrapped(text: str) -> list[str]:
    """A line of the tree; attributes that do not fit go below the first of them."""
    words = text.split("  ")
    lines, indent = [""], 0
    for word in words:
        if word.endswith(" ms"):
            indent = len(lines[0]) + len(word) + 2
        if indent and len(lines[-1]) + len(word) > WIDTH - 4 and lines[-1].strip():
            lines.append(" " * indent)
        lines[-1] += word + "  "
    return [line.rstrip() for line in lines]


def _move(places: int) -> str:
    return f"▲{places}" if places > 0 else f"▼{-places}" if places < 0 else "="


def _stars(judged: JudgedList, index: int) -> str:
    grade = int(judged.grades[index])
    return "●" * grade + "○" * (4 - grade)
