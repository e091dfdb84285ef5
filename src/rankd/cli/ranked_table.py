"""Lists for a person: a row per candidate, or, where features are many, a column per candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rankd.cli.remote import printable, shown_number

BAR_WIDTH = 20
_EIGHTHS = " ▏▎▍▌▋▊▉"
_GAP = 2


@dataclass
class Listing:
    """Candidates in the order to print; `leading` columns come first, then features. Numbers may be NaN; texts are
    printed as they are."""

    ids: Sequence[str]
    leading: Mapping[str, Sequence[float | int]]
    features: Mapping[str, Sequence[float | str]] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    bars: Sequence[float] | None = None


def print_listing(console: Console, listing: Listing) -> None:
    """One table if it is no wider than the console, else features as rows below it, in blocks that fit."""
    columns = _columns(listing, listing.features)
    if not listing.features or _width(columns) <= console.width:
        console.print(_table(columns, listing))
        return
    console.print(_table(_columns(listing, {}), listing))
    names = [printable(name) for name in listing.features]
    values = [[_shown(v) for v in column] for column in listing.features.values()]
    heads = [_marked(i, listing) for i in listing.ids]
    widths = [max(len(heads[n]), *(len(column[n]) for column in values)) + _GAP for n in range(len(heads))]
    start = 0
    while start < len(heads):
        room = console.width - max(map(len, [*names, "feature"]))
        end = start
        while end < len(heads) and (end == start or room >= widths[end]):
            room -= widths[end]
            end += 1
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("feature", overflow="fold")
        for head in heads[start:end]:
            table.add_column(Text(head), justify="right", overflow="fold")
        for name, column in zip(names, values, strict=True):
            table.add_row(Text(name), *[_cell(text) for text in column[start:end]])
        console.print()
        console.print(table)
        start = end


def bar(value: float, least: float, most: float) -> str:
    """A bar of up to BAR_WIDTH cells, in eighths; nothing where the value is missing."""
    if value != value or most <= least:
        return "" if value != value else "█" * BAR_WIDTH
    eighths = round((value - least) / (most - least) * BAR_WIDTH * 8)
    full, part = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[part] if part else "")


def _columns(listing: Listing, features: Mapping[str, Sequence[float | str]]) -> dict[str, list[str]]:
    """Texts by heading."""
    columns: dict[str, list[str]] = {}
    for position, (name, numbers) in enumerate(listing.leading.items()):
        columns[name] = [shown_number(float(n)) if isinstance(n, float) else str(n) for n in numbers]
        if position == 0:
            columns["id"] = [_marked(i, listing) for i in listing.ids]
    columns.setdefault("id", [_marked(i, listing) for i in listing.ids])
    if listing.bars is not None:
        known = [b for b in listing.bars if b == b]
        least, most = min([0.0, *known]), max([0.0, *known])
        columns[""] = [bar(b, least, most) for b in listing.bars]
    for name, values in features.items():
        columns[printable(name)] = [_shown(v) for v in values]
    return columns


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else shown_number(float(value))


def _marked(entity_id: str, listing: Listing) -> str:
    return printable(entity_id) + (" (unknown)" if entity_id in listing.unknown else "")


def _width(columns: Mapping[str, list[str]]) -> int:
    return sum(max(len(name), *map(len, texts), 0) + _GAP for name, texts in columns.items())


def _table(columns: Mapping[str, list[str]], listing: Listing) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(Text(name), justify="left" if name in ("id", "") else "right", overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*[_cell(text) for text in row])
    return table


def _cell(text: str) -> Text:
    return Text(text, style="dim" if text == "–" else "yellow" if text.endswith(" (unknown)") else "")
