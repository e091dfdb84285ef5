"""Synthetic workspaces: forests of a given shape over signals of random numbers.

Shapes matter here, relevance does not: a forest of 500 trees with 31 leaves over 50 features costs
the same whatever it was trained on, as long as its splits are spread over the features and rows take
different ways through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import yaml

from rankd.client import Client

PLAIN = [f"s{i:02}" for i in range(44)]
COMPUTED = {
    "popularity": "log1p(item.clicks)",
    "freshness": "decay(item.released, 30 * 86400)",
    "price_rank": "list_rank(item.price)",
    "value": "item.s00 / (1 + item.price)",
}
COLUMNS = ["bm25", "recall"]
FEATURES = {name: f"item.{name}" for name in PLAIN} | COMPUTED | {name: f"column.{name}" for name in COLUMNS}
"""50: signals as they are, expressions, and columns of the request."""

NUMBERS = dict.fromkeys([*PLAIN, "price", "clicks"], "f32") | {"released": "timestamp"}
CATALOGUE = {
    "title": "string",
    "brand": "category",
    "price": "f32",
    "released": "timestamp",
    "stock": "i64",
    "clicks_7d": "f32",
    "vector": "embedding[64]",
}
"""What a shop keeps of a product."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A forest's trees and leaves per tree."""

    trees: int
    leaves: int

    @property
    def name(self) -> str:
        """Such as forest_500x31."""
        return f"forest_{self.trees}x{self.leaves}"

    def __str__(self) -> str:
        return f"{self.trees} × {self.leaves}"


def write_forest(shape: Shape, file: Path) -> None:
    """Trains a forest of exactly this shape and writes it as LightGBM's text."""
    generator = np.random.default_rng(shape.trees * 1000 + shape.leaves)
    rows = 6_000
    x = generator.normal(size=(rows, len(FEATURES)))
    # Every feature counts a little, so that splits are spread; noise keeps the trees growing.
    y = np.sin(x * generator.uniform(0.5, 2.0, len(FEATURES))).sum(axis=1) + generator.normal(size=rows)
    x[generator.random(x.shape) < 0.05] = np.nan
    options = {"objective": "regression", "num_leaves": shape.leaves, "min_data_in_leaf": 5, "learning_rate": 0.05}
    options |= {"feature_fraction": 0.5, "verbose": -1, "seed": 1, "deterministic": True, "num_threads": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(x, y, feature_name=list(FEATURES)), shape.trees)
    grown = [tree["num_leaves"] for tree in booster.dump_model()["tree_info"]]
    if len(grown) != shape.trees or min(grown) != shape.leaves:
        raise RuntimeError(f"asked for {shape}, LightGBM grew {len(grown)} trees of {min(grown)} leaves or more")
    booster.save_model(str(file))


def write_ranking_workspace(folder: Path, shapes: list[Shape]) -> None:
    """A workspace with a profile and a model per shape over the 50 features."""
    (folder / "models").mkdir(parents=True)
    for shape in shapes:
        write_forest(shape, folder / "models" / f"{shape.name}.txt")
    profiles = {
        shape.name: {"columns": COLUMNS, "features": FEATURES, "base": "bm25", "model": shape.name} for shape in shapes
    }
    document = {
        "version": 1,
        "schema": {"item": NUMBERS},
        "models": {shape.name: {"file": f"models/{shape.name}.txt"} for shape in shapes},
        "profiles": profiles,
    }
    write_document(folder, document)


def write_store_workspace(folder: Path, signals: dict[str, str]) -> None:
    """A workspace that only keeps items with these signals."""
    folder.mkdir(parents=True)
    write_document(folder, {"version": 1, "schema": {"item": signals}})


def write_document(folder: Path, document: dict[str, object]) -> None:
    """rankd.yaml, with data on disk and nothing that delays the end of the process."""
    document["server"] = {"data_dir": "data", "drain_seconds": 0, "log": {"level": "warning"}}
    (folder / "rankd.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def item_id(number: int) -> str:
    """Ids as a shop has them: 12 bytes."""
    return f"sku-{number:08}"


def load(target: str, signals: dict[str, str], count: int, batch_rows: int = 5_000) -> None:
    """Writes `count` items of random values through the service."""
    generator = np.random.default_rng(5)
    with Client(target, batch_timeout_s=120.0, wait_for_ready=True) as client:
        for start in range(0, count, batch_rows):
            rows = min(batch_rows, count - start)
            columns = {name: _values(kind, rows, generator) for name, kind in signals.items()}
            result = client.write_signals("item", [item_id(start + i) for i in range(rows)], columns)
            if result.rejected:
                raise RuntimeError(f"rejected: {result.rejected[0]}")


def _values(kind: str, rows: int, generator: np.random.Generator) -> object:
    if kind == "f32":
        return generator.lognormal(size=rows).astype(np.float32)
    if kind == "i64":
        return generator.integers(0, 1_000, rows)
    if kind == "timestamp":
        return np.datetime64("2026-09-01", "ms") - generator.integers(0, 365 * 86_400_000, rows)
    if kind == "category":
        return [f"brand {number}" for number in generator.integers(0, 500, rows)]
    if kind == "string":
        words = [f"word{number}" for number in range(2_000)]
        return [" ".join(generator.choice(words, 8)) for _ in range(rows)]
    dimension = int(kind.removeprefix("embedding[").removesuffix("]"))
    return generator.normal(size=(rows, dimension)).astype(np.float32)
