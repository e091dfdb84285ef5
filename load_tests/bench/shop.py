"""Synthetic workspaces: forests of a given shape over stored signals.

Shapes matter here, relevance does not: a forest of 500 trees with 31 leaves over 20 features costs
the same whatever it was trained on, as long as its splits are spread over the features and rows take
different ways through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import yaml
from numpy.typing import NDArray

from bench.forest.shapes import Shape, make_rows
from rankd.client import Client
from rankd.v1.ranking_pb2 import Candidates, RankRequest

TRAINING_ROWS = 6_000
ITEM_SEED = 7
AS_OF = "2026-10-01T00:00:00Z"


def forest_name(shape: Shape) -> str:
    """Of its model and its profile: forest_500x31x20."""
    return f"forest_{shape}"


def signal_names(count: int) -> list[str]:
    """s000, s001, …: f32 signals of items, each a feature of the same name."""
    return [f"s{i:03}" for i in range(count)]


def train_forest(shape: Shape, file: Path, seed: int = 1) -> None:
    """Trains a forest of exactly this shape and writes it as LightGBM's text."""
    x = make_rows(shape.features, TRAINING_ROWS, seed)
    generator = np.random.default_rng([seed, shape.features])
    # Every feature counts a little, so that splits are spread; noise keeps the trees growing.
    ranks = np.argsort(np.argsort(x, axis=0), axis=0) / TRAINING_ROWS
    y = np.sin(ranks * generator.uniform(2, 9, shape.features)).sum(axis=1) + generator.normal(size=TRAINING_ROWS)
    options = {"objective": "regression", "num_leaves": shape.leaves, "min_data_in_leaf": 5, "learning_rate": 0.05}
    options |= {"feature_fraction": 0.5, "verbose": -1, "seed": seed, "deterministic": True, "num_threads": 1}
    data = lightgbm.Dataset(x, y, feature_name=signal_names(shape.features))
    booster = lightgbm.train(options, data, shape.trees)
    grown = [tree["num_leaves"] for tree in booster.dump_model()["tree_info"]]
    if len(grown) != shape.trees or min(grown) != shape.leaves:
        raise RuntimeError(f"asked for {shape}, LightGBM grew {len(grown)} trees of {min(grown)} leaves or more")
    booster.save_model(str(file))


def write_workspace(
    folder: Path,
    shapes: Sequence[Shape],
    *,
    base: str | None = None,
    signals: int = 0,
    profiles: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
) -> None:
    """A workspace with a model and a profile, both named by the shape, for each; `signals`: at least so many;
    `profiles`: more of them."""
    (folder / "models").mkdir(parents=True)
    for shape in shapes:
        train_forest(shape, folder / "models" / f"{forest_name(shape)}.txt")
    count = max([signals, *[shape.features for shape in shapes]])
    document = {
        "version": 1,
        "schema": {"item": dict.fromkeys(signal_names(count), "f32")},
        "models": {forest_name(shape): {"file": f"models/{forest_name(shape)}.txt"} for shape in shapes},
        "profiles": {forest_name(shape): profile(shape.features, forest_name(shape), base) for shape in shapes}
        | dict(profiles or {}),
    }
    write_document(folder, document, server)


def profile(features: int, model: str | None, base: str | None = None) -> dict[str, Any]:
    """Stored signals as they are, a model over them, and perhaps a base score."""
    section: dict[str, Any] = {"features": {name: f"item.{name}" for name in signal_names(features)}}
    return section | ({"base": base} if base else {}) | ({"model": model} if model else {})


def write_document(folder: Path, document: dict[str, Any], server: Mapping[str, Any] | None = None) -> None:
    """rankd.yaml, with data on disk and nothing that delays the end of the process unless `server` says so."""
    settings = {"data_dir": "data", "drain_seconds": 0, "log": {"level": "warning"}, **(server or {})}
    text = yaml.safe_dump({**document, "server": settings}, sort_keys=False)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "rankd.yaml.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(folder / "rankd.yaml")


def item_id(number: int) -> str:
    """Ids as a shop has them: 12 bytes."""
    return f"sku-{number:08}"


def item_rows(features: int, count: int) -> NDArray[np.float32]:
    """What is known of items 0 to count: (count, features), some of it missing (NaN)."""
    return make_rows(features, count, ITEM_SEED)


def write_items(target: str, rows: NDArray[np.float32], batch_rows: int = 5_000) -> None:
    """Writes a row per item through the service."""
    with Client(target, batch_timeout_s=120.0, wait_for_ready=True) as client:
        for start in range(0, len(rows), batch_rows):
            part = rows[start : start + batch_rows]
            columns = {name: part[:, i] for i, name in enumerate(signal_names(rows.shape[1]))}
            result = client.write_signals("item", [item_id(start + i) for i in range(len(part))], columns)
            if result.rejected:
                raise RuntimeError(f"rejected: {result.rejected[0]}")


def choose_items(items: int, size: int, seed: int) -> NDArray[np.int64]:
    """Numbers of distinct random items."""
    return np.random.default_rng([seed, size]).choice(items, size, replace=False)


def rank_request(name: str, numbers: NDArray[np.int64], **fields: Any) -> bytes:
    """A serialized RankRequest for a profile and these items."""
    candidates = Candidates(ids=[item_id(number) for number in numbers.tolist()])
    message = RankRequest(profile=name, request_id="bench", candidates=candidates, **fields)
    message.as_of.FromJsonString(AS_OF)
    return message.SerializeToString()
