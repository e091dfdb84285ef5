"""Results as tables on the terminal, as a section of a document, and as a plot."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from rich.console import Console
from rich.table import Table as RichTable

import rankd


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text; columns after the first are numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def show(self, console: Console) -> None:
        """Prints it."""
        table = RichTable(title=self.title, title_justify="left", caption=self.note, caption_justify="left")
        for number, name in enumerate(self.head):
            table.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)

    def markdown(self) -> str:
        """The same for a document."""
        lines = [f"**{self.title}**", "", "| " + " | ".join(self.head) + " |"]
        lines.append("| " + " | ".join(["---", *["---:"] * (len(self.head) - 1)]) + " |")
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, "", self.note] if self.note else lines)


def machine() -> dict[str, str]:
    """What the figures depend on besides the code."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    megahertz = re.search(r"^cpu MHz\s*:\s*([\d.]+)$", cpuinfo, re.MULTILINE)
    facts = {
        "CPU": (model[1].strip() if model else platform.machine())
        + (f", {float(megahertz[1]):.0f} MHz" if megahertz else ""),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
    }
    versions = {name: importlib.metadata.version(name) for name in ("grpcio", "uvloop", "numpy")}
    return facts | {"rankd": rankd.__version__} | versions


def machine_line() -> str:
    """One sentence of it."""
    return "; ".join(f"{name} {value}" for name, value in machine().items())


def write_section(document: Path, name: str, text: str) -> bool:
    """Replaces what stands between `<!-- name -->` and `<!-- /name -->`; False if the document has no such place."""
    content = document.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    replaced, count = pattern.subn(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", content)
    if count:
        document.write_text(replaced, encoding="utf-8")
    return bool(count)


def svg_pyplot() -> ModuleType:
    """matplotlib.pyplot for SVG files with text as text; the same figures give the same file."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "rankd"
    mpl.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot as plt

    return plt


def plot_cpu(file: Path, sizes: Sequence[int], lines: dict[str, Sequence[float]]) -> None:
    """CPU per call over the number of candidates, both axes logarithmic, one line per forest and one for the echo."""
    plt = svg_pyplot()
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure, axes = plt.subplots(figsize=(7, 4))
    for name, values in lines.items():
        axes.plot(sizes, values, marker="o", label=name, linestyle="--" if "echo" in name else "-")
    axes.set(xscale="log", yscale="log", xlabel="candidates", ylabel="server CPU per call, µs")
    axes.set_xticks(list(sizes), [f"{size:,}" for size in sizes])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
