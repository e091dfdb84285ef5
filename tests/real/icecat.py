"""The Icecat catalogue through the service: BM25, a base expression and LambdaMART on judged queries.

Candidates of a query are the best RETRIEVED by BM25 and the judged products below them. The primary
number is NDCG@10 of the judged candidates only (the others are taken out of the list before it is
measured): an unjudged product is not a bad one, nobody looked. Beside it stands the same with
unjudged products as grade 0, a lower bound that favours whatever order the judges were shown.
Queries without a relevant product are left out. Folds are by family of queries (data.query_families);
each fold's model is served by rankd and ranks only queries it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
from numpy.typing import NDArray
from real import data

from rankd.client import Client, RankedList
from rankd.learn import metrics
from rankd.learn.bootstrap import Difference, Interval, mean_interval, paired_difference
from rankd.learn.collect import collect_rows, rank_list
from rankd.learn.evaluation import base_order
from rankd.learn.judgments import JudgedList
from rankd.learn.metrics import NoRelevant
from rankd.learn.process import ServerProcess
from rankd.learn.training import Settings, Trained, assign_folds, train, write_model

K = 10
RETRIEVED = 200
FOLDS = 5
SEED = 1
AS_OF_S = datetime(2020, 7, 1, tzinfo=UTC).timestamp()
"""A month after the newest product: ages do not depend on the day of the run."""
SETTINGS = Settings(
    trees=100, leaves=8, learning_rate=0.05, least_leaf_rows=20, feature_fraction=0.6, row_fraction=0.8, threads=1
)
"""Small trees for two thousand rows, chosen beforehand; nothing here was tuned on the results."""

YAML = """\
version: 1
schema:
  item:
    title: string
    description: string
    brand: category
    brand_text: string
    price: f32
    released: timestamp
{models}
profiles:
"""
PROFILE = """\
  {name}:
    columns: [bm25_title]
    features:
      bm25: candidate.base_score
      bm25_z: list_zscore(candidate.base_score)
      bm25_rank: list_rank(candidate.base_score)
      bm25_title: column.bm25_title
      title_overlap: token_overlap(request.query, item.title)
      title_trigrams: trigram_similarity(request.query, item.title)
      title_prefix: prefix_match(request.query, item.title)
      title_words: token_count(item.title)
      description_overlap: token_overlap(request.query, item.description)
      description_words: token_count(item.description)
      brand_asked: token_overlap(request.query, item.brand_text)
      brand_similar: edit_similarity(request.query, item.brand_text)
      query_words: token_count(request.query)
      price: log1p(item.price)
      price_z: list_zscore(log1p(item.price))
      price_rank: list_rank(item.price)
      age_years: age_days(item.released) / 365
      newness: decay(item.released, "1095d")
    base: bm25_z + title_overlap + 0.5 * brand_asked + 0.5 * newness
"""
"""The base expression was written down before its first run and left as it was: text first, brand if
it was asked for, newer things first."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Orders:
    """NDCG@10 per query, of four orders: NaN where a query has no relevant product.

    `model` was trained on judged candidates only, `model_zero` on all, unjudged ones as grade 0.
    """

    bm25: NDArray[np.float64]
    base: NDArray[np.float64]
    model: NDArray[np.float64]
    model_zero: NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What came of it. `judged`: the primary numbers; `zero`: unjudged products as grade 0."""

    judged: Orders
    zero: Orders
    item_count: int
    list_count: int
    candidate_count: int
    rank_ms: NDArray[np.float64] = field(repr=False)
    trained: Trained = field(repr=False)

    def interval(self, values: NDArray[np.float64]) -> Interval:
        """Over the queries that have a relevant product."""
        return mean_interval(metrics.settle(values, NoRelevant.EXCLUDE), seed=SEED)

    def difference(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> Difference:
        """second − first, paired by query."""
        return paired_difference(
            metrics.settle(first, NoRelevant.EXCLUDE), metrics.settle(second, NoRelevant.EXCLUDE), seed=SEED
        )

    def document(self) -> dict[str, Any]:
        """For the last line of JSON."""
        model = self.interval(self.judged.model)
        by_name = {"bm25": self.judged.bm25, "base": self.judged.base, "model": self.judged.model}
        by_name["model_zero"] = self.judged.model_zero
        pairs = (("bm25", "base"), ("bm25", "model"), ("base", "model"))
        return {
            **{f"ndcg_{name}": _rounded(self.interval(values).mean) for name, values in by_name.items()},
            "ci95": [_rounded(model.low), _rounded(model.high)],
            "queries": model.count,
            "ci95_of": {name: _bounds(self.interval(values)) for name, values in by_name.items()},
            "differences": {
                f"{second}-{first}": [
                    _rounded(self.difference(by_name[first], by_name[second]).interval.mean),
                    *_bounds(self.difference(by_name[first], by_name[second]).interval),
                ]
                for first, second in pairs
            },
            "unjudged_as_zero": {
                "ndcg_bm25": _rounded(self.interval(self.zero.bm25).mean),
                "ndcg_base": _rounded(self.interval(self.zero.base).mean),
                "ndcg_model": _rounded(self.interval(self.zero.model).mean),
                "ndcg_model_zero": _rounded(self.interval(self.zero.model_zero).mean),
            },
        }


def run(path: Path, workspace: Path, say: Say, settings: Settings = SETTINGS, queries: int | None = None) -> Outcome:
    """The whole run; `queries`: only the first so many, with all of the catalogue."""
    icecat = data.icecat(path)
    judgments = dict(list(icecat.judgments.items())[:queries])
    say(f"{len(icecat.products):,} products; {sum(map(len, judgments.values())):,} grades of {len(judgments)} queries")
    lists = list(retrieve(icecat.products, judgments))
    candidates = sum(len(judged.ids) for judged in lists)
    say(f"BM25: the best {RETRIEVED} and the judged ones below, {candidates:,} candidates")
    write_workspace(workspace, {})
    with ServerProcess(workspace) as server, Client(server.address, timeout_s=30) as client:
        written = load(client, icecat.products)
        say(f"loaded {written:,} products over gRPC; computing features")
        rows = collect_rows(client, "search", lists).rows
        rows_zero = collect_rows(client, "search", [with_zeros(one) for one in lists]).rows
    families = data.query_families(judgments)
    say(data.families_text(families))
    fold_of = assign_folds([families[key] for key in rows.keys], FOLDS, SEED)
    models = {}
    for fold in range(FOLDS):
        outside = np.flatnonzero(fold_of != fold).tolist()
        models[f"judged{fold}"] = train(rows.subset(outside), settings, K)
        models[f"zero{fold}"] = train(rows_zero.subset(outside), settings, K)
        say(f"fold {fold}: trained on {len(outside)} queries, {int(np.sum(fold_of == fold))} held out")
    write_workspace(workspace, models)
    judged, zero, rank_ms = [], [], []
    with ServerProcess(workspace) as server, Client(server.address, timeout_s=30) as client:
        for one, fold in zip(lists, fold_of.tolist(), strict=True):
            answer = rank_list(client, f"judged{fold}", one, "scores", timings=True)
            answer_zero = rank_list(client, f"zero{fold}", one, "scores")
            for values, measured in zip((judged, zero), measure(one, answer, answer_zero), strict=True):
                values.append(measured)
            rank_ms.append(sum(answer.timings.values()) / 1e3)
    return Outcome(
        Orders(*np.array(judged).T), Orders(*np.array(zero).T), written, len(lists), candidates, np.array(rank_ms),
        train(rows, settings, K),
    )  # fmt: skip


def with_zeros(one: JudgedList) -> JudgedList:
    """The list with unjudged candidates as grade 0."""
    return replace(one, grades=np.nan_to_num(one.grades))


def retrieve(products: Sequence[dict[str, Any]], judgments: dict[str, dict[str, float]]) -> Iterator[JudgedList]:
    """BM25 over name, title, short description and supplier; candidates in its order, judged ones all there."""
    ids = [product["id"] for product in products]
    place = {identifier: number for number, identifier in enumerate(ids)}
    everything = _index(" ".join(str(p.get(f) or "") for f in ("name", "title", "short_description", "supplier"))
                        for p in products)  # fmt: skip
    titles = _index(product["title"] for product in products)
    for query, grades in judgments.items():
        scores, title_scores = everything(query), titles(query)
        order = metrics.order_by_score(scores)
        position = np.empty(len(order), np.int64)
        position[order] = np.arange(len(order))
        best = order[:RETRIEVED].tolist()
        below = sorted(({place[i] for i in grades} - set(best)), key=lambda number: int(position[number]))
        chosen = np.array([*best, *below])
        yield JudgedList(
            key=query,
            query=query,
            user="",
            ids=tuple(ids[number] for number in chosen.tolist()),
            grades=np.array([grades.get(ids[number], np.nan) for number in chosen.tolist()]),
            base_scores=scores[chosen].astype(np.float64),
            as_of_s=AS_OF_S,
            columns={"bm25_title": title_scores[chosen].astype(np.float32)},
        )


def _index(texts: Iterator[str]) -> Callable[[str], NDArray[np.float32]]:
    retriever = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    retriever.index(bm25s.tokenize(list(texts), stopwords=None, show_progress=False), show_progress=False)

    def scores(query: str) -> NDArray[np.float32]:
        words = bm25s.tokenize(query, stopwords=None, show_progress=False, return_ids=False)[0]
        return np.asarray(retriever.get_scores(words), np.float32)

    return scores


def load(client: Client, products: Sequence[dict[str, Any]]) -> int:
    """All products as signals; how many rows were written. Prices come in minor units; 0 is no price."""
    result = client.write_signals(
        "item",
        [product["id"] for product in products],
        {
            "title": [product["title"] for product in products],
            "description": [product.get("short_description") for product in products],
            "brand": [product["supplier"] for product in products],
            "brand_text": [product["supplier"] for product in products],
            "price": [product["price"] / 100 or None for product in products],
            "released": [datetime.fromisoformat(product["date_released"]) for product in products],
        },
    )
    assert not result.rejected, result.rejected[0]
    return result.written_count


def write_workspace(workspace: Path, models: dict[str, Trained]) -> None:
    """rankd.yaml with the profile `search` and one per model, which differs only in the model."""
    lines = "".join(f"  {name}: {{file: {name}.txt}}\n" for name in models)
    text = YAML.format(models=f"models:\n{lines}" if models else "") + PROFILE.format(name="search")
    for name, trained in models.items():
        write_model(workspace / f"{name}.txt", trained.text)
        text += PROFILE.format(name=name) + f"    model: {name}\n"
    (workspace / "rankd.yaml").write_text(text, encoding="utf-8")


def measure(one: JudgedList, answer: RankedList, answer_zero: RankedList) -> tuple[tuple[float, ...], ...]:
    """NDCG@10 of BM25, base and both models: of judged candidates only, and with unjudged ones as grade 0."""
    orders = (
        np.arange(len(one.ids)),
        base_order(answer),
        answer.indexes.astype(np.intp),
        answer_zero.indexes.astype(np.intp),
    )
    judged = tuple(metrics.ndcg(metrics.condense(one.grades[order]), K) for order in orders)
    return judged, tuple(metrics.ndcg(one.grades[order], K) for order in orders)


def _rounded(value: float) -> float:
    return round(value, 4)


def _bounds(interval: Interval) -> list[float]:
    return [_rounded(interval.low), _rounded(interval.high)]
