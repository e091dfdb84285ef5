"""Results as tables on the terminal and as sections of documents; plots as SVG."""

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
