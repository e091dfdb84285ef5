"""The results for the terminal, for docs/kernels.md and as a plot."""

from __future__ import annotations

from pathlib import Path

from bench import report
from bench.forest.cache import say
from bench.forest.results import AVX2, COLUMNS, Case, Results, rankd_name
from bench.report import Table

_INPUTS = {"": "", AVX2: ", AVX2 tier", COLUMNS: ", by columns"}


def _cell(us_per_row: float, ratio: float | None) -> str:
    """Three digits, and the ratio if there is one."""
    number = f"{us_per_row:,.0f}" if us_per_row >= 100 else f"{us_per_row:#.3g}".rstrip(".")
    return number + (f" ({ratio:.1f}×)" if ratio else "")


def _order(results: Results, shape: str) -> list[str]:
    """A shape's engines: rankd, those on the same model; then the models of other libraries."""
    present = {case.engine for case in results.timings if case.shape == shape}
    names = []
    for library in dict.fromkeys(["lightgbm", *results.libraries.values()]):
        names += [rankd_name(library) + variant for variant in _INPUTS]
        names += [engine + s for engine, owner in results.libraries.items() if owner == library for s in ("", COLUMNS)]
    return [name for name in names if name in present]


def _label(engine: str) -> str:
    """`rankd on XGBoost's model, AVX2 tier`."""
    name, _, variant = engine.partition("@")
    name, _, library = name.partition(":")
    words = {"xgboost": "XGBoost", "catboost": "CatBoost"}
    return name + (f" on {words[library]}'s model" if library else "") + _INPUTS[f"@{variant}" if variant else ""]


def tables(results: Results) -> list[Table]:
    """One for every shape: µs per row and, in brackets, how many times faster rankd is."""
    ratios = results.ratios()
    found = []
    for shape in dict.fromkeys(case.shape for case in results.timings):
        batches = sorted({case.batch for case in results.timings if case.shape == shape})
        rows = []
        for engine in _order(results, shape):
            cells = []
            for batch in batches:
                case = Case(shape, batch, engine)
                timing = results.timings.get(case)
                cells.append(_cell(timing.us_per_row, ratios.get(str(case))) if timing else "–")
            rows.append([_label(engine), *cells])
        title = "{} trees × {} leaves × {} features: µs per row (times rankd's)".format(*shape.split("x"))
        found.append(Table(title, ["rows in a call", *[f"{batch:,}" for batch in batches]], rows))
    return found


def remarks(results: Results, hows: dict[str, str]) -> list[str]:
    """What the tables do not say: how each engine is called, what is missing, exactness, loading."""
    lines = [f"{engine}: {how}." for engine, how in hows.items() if any(c.engine == engine for c in results.timings)]
    lines += [f"Not measured: {engine}: {reason}" for engine, reason in results.absent.items()]
    by_batch: dict[int, dict[str, None]] = {}
    for name, tier in results.tiers.items():
        by_batch.setdefault(int(name.split("/")[1]), {})[tier] = None
    if by_batch:
        tiers = [f"{' or '.join(by_batch[batch])} at {batch:,}" for batch in sorted(by_batch)]
        lines.append(f"rankd's tiers by rows in a call: {', '.join(tiers)}.")
    lines.append(
        "Every score of rankd is the library's own, bit for bit."
        if results.exact
        else f"NOT EXACT: {', '.join(results.inexact) or 'rankd was not measured'}."
    )
    off = {engine: value for engine, value in results.differences.items() if value}
    lines += [f"{engine} differs from the library by up to {value:.1g}." for engine, value in off.items()]
    if results.load:
        lines.append(
            "Ready to score, CPU time: " + "; ".join(f"{name} {value}" for name, value in results.load.items()) + "."
        )
    return lines


def write_documents(places: list[Path], results: Results, hows: dict[str, str]) -> None:
    """The marked section of kernels.md, or of a file that is named itself; in a folder also the plot."""
    parts = [f"Measured on: {report.machine_line()}.", *[table.markdown() for table in tables(results)]]
    parts.append("\n".join(f"- {line}" for line in remarks(results, hows)))
    for place in places:
        document = place / "kernels.md" if place.is_dir() else place
        if not document.exists() or not report.write_section(document, "bench-forest", "\n\n".join(parts)):
            say(f"no section <!-- bench-forest --> in {document}: nothing written there")
        if place.is_dir():
            plot(place / "forest_us_per_row.svg", results)


def plot(file: Path, results: Results) -> None:
    """µs per row over the rows in a call, both logarithmic; a panel a shape, a line an engine."""
    plt = report.svg_pyplot()
    shapes = list(dict.fromkeys(case.shape for case in results.timings))
    width = min(2, len(shapes))
    height = -(-len(shapes) // width)
    figure, grid = plt.subplots(height, width, figsize=(5 * width, 3.4 * height), squeeze=False, sharex=True)
    colours = {"rankd": "black"} | {engine: f"C{number}" for number, engine in enumerate(results.libraries)}
    for axes, shape in zip(grid.flat, shapes, strict=False):
        for engine in _order(results, shape):
            if engine.endswith(COLUMNS):
                continue
            cases = [case for case in results.timings if (case.shape, case.engine) == (shape, engine)]
            found = sorted((case.batch, results.timings[case].us_per_row) for case in cases)
            ours = engine.startswith("rankd")
            name, _, variant = engine.partition("@")
            axes.plot(
                *zip(*found, strict=True), label=_label(engine), color=colours[name.removeprefix("rankd:")],
                linewidth=2 if ours else 1, linestyle=":" if variant else "-" if ours else "--",
                marker="o", markersize=3,
            )  # fmt: skip
        batches = sorted({case.batch for case in results.timings if case.shape == shape})
        axes.set(xscale="log", yscale="log", title="{} trees × {} leaves × {} features".format(*shape.split("x")))
        axes.set_xticks(batches, [f"{batch:,}" for batch in batches], minor=False)
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.grid(True, which="major", alpha=0.3)
    for axes in list(grid.flat)[len(shapes) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("rows in a call")
    for row in grid:
        row[0].set_ylabel("µs per row")
    handles, labels = max((axes.get_legend_handles_labels() for axes in grid.flat), key=lambda found: len(found[1]))
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.22 / height, 1, 1))
    figure.savefig(file, metadata={"Date": None})
