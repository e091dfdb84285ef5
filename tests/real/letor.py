"""LightGBM's lambdarank example through the service: 300 request columns, no signals at all.

The claim: a model served by rankd gives LightGBM's own scores bit for bit, so its NDCG@10 is LightGBM's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from real import data

from rankd.client import Client
from rankd.learn import metrics
from rankd.learn.process import ServerProcess
from rankd.learn.training import Settings, import_lightgbm, write_model

K = 10
SETTINGS = Settings(trees=100, leaves=31, learning_rate=0.1, threads=1)
"""100 trees of 31 leaves, the rest LightGBM's defaults: the data's own baseline (NDCG@10 0.736)."""


@dataclass(frozen=True)
class Outcome:
    """`ndcg_lightgbm`: as LightGBM's own metric says; `ndcg_rankd`: of the lists that Rank returned; both
    count a query without a relevant document as 1. `unequal_scores`: how many of `row_count` scores differ."""

    ndcg_rankd: float
    ndcg_lightgbm: float
    ndcg_input_order: float
    unequal_scores: int
    row_count: int
    query_count: int

    @property
    def good(self) -> bool:
        """Whether the claim holds."""
        return self.unequal_scores == 0 and self.ndcg_rankd == self.ndcg_lightgbm

    def document(self) -> dict[str, Any]:
        """For the last line of JSON."""
        return {
            "ndcg_rankd": self.ndcg_rankd,
            "ndcg_lightgbm": self.ndcg_lightgbm,
            "unequal_scores": self.unequal_scores,
            "rows": self.row_count,
            "queries": self.query_count,
        }


def workspace_yaml() -> str:
    """One profile: every feature is a request column."""
    names = [f"f{number}" for number in range(1, data.LETOR_FEATURES + 1)]
    features = "".join(f"      {name}: column.{name}\n" for name in names)
    return (
        "version: 1\nschema: {item: {}}\nmodels:\n  forest: {file: forest.txt}\nprofiles:\n  letor:\n"
        f"    columns: [{', '.join(names)}]\n    model: forest\n    features:\n{features}"
    )


def run(path: Path, workspace: Path, settings: Settings = SETTINGS, queries: int | None = None) -> Outcome:
    """Trains, serves, scores and ranks the test lists; `queries`: only the first so many."""
    lightgbm = import_lightgbm()
    train, test = data.letor(path, "train"), data.letor(path, "test")
    if queries is not None:
        rows = int(test.sizes[:queries].sum())
        test = data.Letor(test.matrix[:rows], test.grades[:rows], test.sizes[:queries])
    names = [f"f{number}" for number in range(1, data.LETOR_FEATURES + 1)]
    learn = lightgbm.Dataset(train.matrix, train.grades, group=train.sizes, feature_name=names)
    watch = lightgbm.Dataset(test.matrix, test.grades, group=test.sizes, reference=learn)
    record: dict[str, dict[str, list[float]]] = {}
    booster = lightgbm.train(
        settings.parameters() | {"metric": "ndcg", "eval_at": [K]}, learn, num_boost_round=settings.trees,
        valid_sets=[watch], valid_names=["test"], callbacks=[lightgbm.record_evaluation(record)],
    )  # fmt: skip
    own = booster.predict(test.matrix, num_threads=1)
    write_model(workspace / "forest.txt", booster.model_to_string())
    (workspace / "rankd.yaml").write_text(workspace_yaml(), encoding="utf-8")
    unequal, values, given = 0, [], []
    with ServerProcess(workspace) as server, Client(server.address, timeout_s=30) as client:
        for start, end in pairwise([0, *np.cumsum(test.sizes).tolist()]):
            ids = [f"row{number}" for number in range(start, end)]
            columns = {name: test.matrix[start:end, place] for place, name in enumerate(names)}
            scores = client.score("letor", ids, columns=columns).scores
            unequal += int(np.sum(scores.view(np.uint64) != own[start:end].view(np.uint64)))
            order = client.rank("letor", ids, columns=columns).indexes
            values.append(metrics.ndcg(test.grades[start:end][order], K))
            given.append(metrics.ndcg(test.grades[start:end], K))
    return Outcome(
        # 12 digits: LightGBM adds the same numbers in another order.
        round(metrics.average(values, metrics.NoRelevant.ONE), 12),
        round(record["test"][f"ndcg@{K}"][-1], 12),
        metrics.average(given, metrics.NoRelevant.ONE),
        unequal,
        len(test.grades),
        len(test.sizes),
    )
