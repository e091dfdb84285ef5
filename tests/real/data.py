"""Where the real data is, and how it is read. None of it belongs to the project."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
ICECAT, LETOR = "search_chorus_icecat", "ltr_lightgbm"
LETOR_FEATURES = 300


def folder(name: str) -> Path | None:
    """The folder of a data set; None where it is absent. RANKD_DATA, by default ../shared/data from the root."""
    path = Path(os.environ.get("RANKD_DATA") or ROOT / "../shared/data") / name
    return path.resolve() if path.is_dir() else None


@dataclass(frozen=True)
class Icecat:
    """`products` as in the files; `judgments`: grade 0 to 3 by query and product id."""

    products: list[dict[str, Any]]
    judgments: dict[str, dict[str, float]]


@cache
def icecat(path: Path) -> Icecat:
    """Part of Icecat's electronics catalogue, with the Chorus kata's graded queries."""
    products: list[dict[str, Any]] = []
    for file in sorted(path.glob("products_*.json.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            products += json.load(stream)
    judgments: dict[str, dict[str, float]] = {}
    with (path / "judgments.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            judgments.setdefault(row["query"], {})[row["docid"]] = float(row["rating"])
    return Icecat(products, judgments)


def query_families(judgments: dict[str, dict[str, float]], share: float = 0.3) -> dict[str, str]:
    """A name per query; queries of which at least `share` of the smaller's judged products are the other's, too
    ("laptop", "laptops"), have one name: apart, they would leak from training into test."""
    name = {query: query for query in judgments}
    queries = list(judgments)
    for place, first in enumerate(queries):
        for second in queries[place + 1 :]:
            a, b = judgments[first].keys(), judgments[second].keys()
            if len(a & b) >= share * min(len(a), len(b)):
                old, new = name[second], name[first]
                name = {query: new if family == old else family for query, family in name.items()}
    return name


def families_text(families: dict[str, str]) -> str:
    """How many families, and those of more than one query."""
    sizes = Counter(families.values())
    joined = ["/".join(q for q in families if families[q] == f) for f, size in sizes.items() if size > 1]
    return f"{len(sizes)} families of queries; together: {', '.join(joined)}"


@dataclass(frozen=True)
class Letor:
    """`matrix` float32 (rows, 300): what svmlight leaves out is 0, as LightGBM reads it. `sizes` sums to rows."""

    matrix: NDArray[np.float32]
    grades: NDArray[np.int64]
    sizes: NDArray[np.int64]


def letor(path: Path, part: str) -> Letor:
    """LightGBM's lambdarank example; `part` is train or test. Features count from 1."""
    lines = (path / f"rank.{part}").read_text(encoding="utf-8").splitlines()
    matrix = np.zeros((len(lines), LETOR_FEATURES), np.float32)
    grades = np.zeros(len(lines), np.int64)
    for row, line in enumerate(lines):
        grade, *pairs = line.split()
        grades[row] = int(grade)
        for pair in pairs:
            feature, _, value = pair.partition(":")
            matrix[row, int(feature) - 1] = float(value)
    return Letor(matrix, grades, np.loadtxt(path / f"rank.{part}.query", dtype=np.int64))
