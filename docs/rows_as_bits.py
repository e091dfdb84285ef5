"""Draws docs/rows_as_bits.svg: one small tree and eight rows on their way through the kernel (docs/kernels.md).

    python docs/rows_as_bits.py

All bits in the picture are computed here, by the kernel's formulas; a test holds them against the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

NAN = float("nan")
FEATURES = ("price", "ctr")
ROWS = ((5.0, 0.05), (15.0, 0.2), (8.0, 0.2), (30.0, 0.25), (50.0, 0.9), (12.0, NAN), (25.0, NAN), (18.0, 0.4))
AXES = ((10.0, 20.0), (0.1, 0.3))
"""Ascending thresholds of each feature; missing values go left everywhere."""
CONDITIONS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(feature, index of its threshold)."""
NODES = ((1, 0, 5, 3), (2, 0, 3, 1), (3, 3, 5, 4), (0, 1, 3, 2))
"""(condition, lo, hi, at), by depth."""
LEAVES = (-0.4, 0.1, 0.3, -0.2, 0.7)
PLANES = 3
ALL = 2 ** len(ROWS) - 1


def bins() -> list[list[int]]:
    """Per feature and row: how many thresholds are below the value; 0 where it is missing."""
    return [[sum(row[f] > t for t in axis) for row in ROWS] for f, axis in enumerate(AXES)]


def conditions() -> list[int]:
    """Masks: bit r says that row r meets the condition, which is bin <= index."""
    found = bins()
    return [sum((found[f][r] <= i) << r for r in range(len(ROWS))) for f, i in CONDITIONS]


def boundaries() -> list[int]:
    """Masks: bit r says that the leaf of row r is right of the boundary."""
    met = conditions()
    right_of = [ALL] + [0] * (2**PLANES - 1)
    for condition, lo, hi, at in NODES:
        right_of[at] = right_of[lo] & (right_of[hi] | ~met[condition] & ALL)
    return right_of


def planes() -> list[int]:
    """Bit k of the rank's Gray code: XOR of the boundaries at odd multiples of 2^k."""
    right_of = boundaries()
    found = []
    for k in range(PLANES):
        plane = 0
        for i in range(2**k, 2**PLANES, 2 ** (k + 1)):
            plane ^= right_of[i]
        found.append(plane)
    return found


def codes() -> list[int]:
    """Of every row."""
    found = planes()
    return [sum((plane >> r & 1) << k for k, plane in enumerate(found)) for r in range(len(ROWS))]


def table() -> list[float | None]:
    """Leaf values by code: leaf i stands at its Gray code i ^ (i >> 1)."""
    found: list[float | None] = [None] * 2**PLANES
    for rank, value in enumerate(LEAVES):
        found[rank ^ rank >> 1] = value
    return found


CELL = 20
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1040 716" font-family="ui-sans-serif, Helvetica, Arial, '
    'sans-serif" font-size="13" role="img" aria-label="Eight rows become bins, the bins masks of conditions, these '
    'masks of the boundaries of a tree, these the bits of a code, and the code the value of a leaf">'
    "<style>.on { fill: #1d4ed8 } .off { fill: #e2e8f0 } .head { fill: #0f172a; font-weight: 600 } "
    ".name { fill: #0f172a; text-anchor: end } .cell { fill: #0f172a; text-anchor: middle; font-size: 12px } "
    ".note { fill: #475569; font-size: 12px } .node { fill: #ffffff; stroke: #475569; stroke-width: 1.5 } "
    ".leaf { fill: #f1f5f9; stroke: #94a3b8 } .edge { stroke: #475569; stroke-width: 1.5 } "
    ".bound { stroke: #0f766e; stroke-width: 2; stroke-dasharray: 5 4 } .tag { fill: #0f766e; font-weight: 600; "
    'text-anchor: middle } .mid { text-anchor: middle }</style><rect width="1040" height="716" rx="12" fill="#ffffff"/>'
)


def text(x: float, y: float, words: str, kind: str = "note") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def mask(x: float, y: float, name: str, bits: int, note: str = "") -> str:
    """A mask as squares, row 0 at the left."""
    squares = "".join(
        f'<rect class="{"on" if bits >> r & 1 else "off"}" x="{x + r * CELL:g}" y="{y:g}" width="{CELL - 3}" '
        f'height="{CELL - 3}" rx="2"/>'
        for r in range(len(ROWS))
    )
    return text(x - 10, y + 13, name, "name") + squares + text(x + len(ROWS) * CELL + 8, y + 13, note)


def numbers(x: float, y: float, name: str, values: Sequence[object], step: float) -> str:
    cells = "".join(text(x + i * step + step / 2 - 2, y + 13, str(v), "cell") for i, v in enumerate(values))
    return text(x - 10, y + 13, name, "name") + cells


def quantising(x: float, y: float) -> list[str]:
    parts = [text(x - 70, y, "1  Values become bins: thresholds below the value", "head")]
    shown = [["–" if row[f] != row[f] else f"{row[f]:g}" for row in ROWS] for f in range(2)]
    parts.append(numbers(x, y + 14, "row", range(len(ROWS)), 40))
    for f, name in enumerate(FEATURES):
        parts.append(numbers(x, y + 36 + 22 * f, name, shown[f], 40))
        thresholds = " | ".join(f"{t:g}" for t in AXES[f])
        parts.append(numbers(x, y + 88 + 22 * f, f"bin of {name}", bins()[f], 40))
        parts.append(text(x + 8 * 40 + 8, y + 101 + 22 * f, f"axis: {thresholds}"))
    parts.append(text(x - 70, y + 148, "A missing value takes the bin of its default direction: here left, 0."))
    return parts


def asking(x: float, y: float) -> list[str]:
    parts = [text(x - 70, y, "2  Every condition once, for all trees: a mask", "head")]
    for i, (f, t) in enumerate(CONDITIONS):
        name = f"c{i}: {FEATURES[f]} ≤ {AXES[f][t]:g}"
        parts.append(mask(x + 40, y + 16 + 24 * i, name, conditions()[i], f"bin ≤ {t}"))
    parts.append(text(x - 70, y + 148, "A blue square is a row that meets it. A real mask has 64 to 512 rows."))
    return parts


def tree(x: float, y: float) -> list[str]:
    """The tree over its leaves, the boundaries between them."""
    leaf_x = [x + 92 * i + 46 for i in range(len(LEAVES))]
    middle = {at: x + 92 * at for _, _, _, at in NODES}
    parts = [text(x - 20, y, "3  A tree: each node draws one boundary between its leaves", "head")]
    heights = {3: y + 40, 1: y + 96, 4: y + 96, 2: y + 152}
    edges = [
        (3, middle[1], heights[1]),
        (3, middle[4], heights[4]),
        (1, leaf_x[0], y + 212),
        (1, middle[2], heights[2]),
    ]
    edges += [(2, leaf_x[1], y + 212), (2, leaf_x[2], y + 212), (4, leaf_x[3], y + 212), (4, leaf_x[4], y + 212)]
    for at, to_x, to_y in edges:
        parts.append(f'<line class="edge" x1="{middle[at]:g}" y1="{heights[at]:g}" x2="{to_x:g}" y2="{to_y:g}"/>')
    for at in range(len(LEAVES) + 1):
        top = heights.get(at, y + 190)
        parts.append(f'<line class="bound" x1="{x + 92 * at:g}" y1="{top:g}" x2="{x + 92 * at:g}" y2="{y + 246:g}"/>')
        parts.append(text(x + 92 * at, y + 262, f"b{at}", "tag"))
    for condition, _, _, at in NODES:
        f, t = CONDITIONS[condition]
        left, top = middle[at] - 42, heights[at] - 13
        parts.append(f'<rect class="node" x="{left:g}" y="{top:g}" width="84" height="26" rx="13"/>')
        parts.append(text(middle[at], heights[at] + 4, f"{FEATURES[f]} ≤ {AXES[f][t]:g}", "cell"))
    for i, value in enumerate(LEAVES):
        parts.append(f'<rect class="leaf" x="{leaf_x[i] - 32:g}" y="{y + 206:g}" width="64" height="26" rx="4"/>')
        parts.append(text(leaf_x[i], y + 223, f"{value:g}", "cell"))
    return parts


def bounding(x: float, y: float) -> list[str]:
    parts = [text(x - 70, y, "4  Which rows end right of each boundary", "head")]
    formulas = {at: f"b{lo} & (b{hi} | ~c{c})" for c, lo, hi, at in NODES} | {0: "all", 5: "none"}
    places = range(len(LEAVES) + 1)
    parts += [mask(x, y + 16 + 24 * at, f"b{at}", boundaries()[at], formulas[at]) for at in places]
    parts.append(text(x - 70, y + 180, "One operation a node, in any order that has lo and hi"))
    parts.append(text(x - 70, y + 196, "before at, whatever the shape of the tree."))
    return parts


def coding(x: float, y: float) -> list[str]:
    parts = [text(x - 70, y, "5  The leaf as bits: XOR of boundaries", "head")]
    for k, plane in enumerate(planes()):
        odd = " ^ ".join(f"b{i}" for i in range(2**k, 2**PLANES, 2 ** (k + 1)) if i <= len(LEAVES))
        parts.append(mask(x, y + 16 + 24 * k, f"bit {k}", plane, odd))
    parts.append(numbers(x, y + 92, "code", [f"{code:0{PLANES}b}" for code in codes()], 34))
    parts.append(text(x - 70, y + 126, "Between neighbouring leaves one bit changes: a Gray code."))
    return parts


def adding(x: float, y: float) -> list[str]:
    parts = [text(x - 70, y, "6  The code looks up the leaf's value", "head")]
    shown = ["" if value is None else f"{value:g}" for value in table()]
    parts.append(numbers(x, y + 14, "code", [f"{code:0{PLANES}b}" for code in range(2**PLANES)], 40))
    parts.append(numbers(x, y + 36, "value", shown, 40))
    found = [table()[code] for code in codes()]
    parts.append(numbers(x, y + 70, "row", range(len(ROWS)), 40))
    parts.append(numbers(x, y + 92, "adds", [f"{value:g}" for value in found if value is not None], 40))
    return parts


def picture() -> str:
    """The whole SVG."""
    parts = [HEAD, *quantising(140, 34), *asking(640, 34), *tree(60, 234), *bounding(660, 234)]
    parts += [*coding(140, 546), *adding(640, 546)]
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
