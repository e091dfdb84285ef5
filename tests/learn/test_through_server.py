"""Rows and measures through a served process, beside the same numbers worked out from its answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rankd.client import Client
from rankd.errors import ConfigError, UnavailableError
from rankd.learn import metrics
from rankd.learn.collect import collect_rows, rank_list
from rankd.learn.evaluation import Options, base_order, evaluate
from rankd.learn.judgments import JudgedList
from rankd.learn.process import ServerProcess

YAML = """\
version: 1
schema:
  item: {price: f32, title: string}
profiles:
  shop:
    columns: [bm25]
    features:
      price: item.price
      above: item.price - list_mean(item.price)
      match: token_overlap(request.query, item.title)
      bm25: column.bm25
    base: match + 0.001 * price
  plain: {}
"""
NAN = float("nan")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "rankd.yaml").write_text(YAML)
    with ServerProcess(folder) as server, Client(server.address, timeout_s=10) as client:
        client.write_signals(
            "item",
            ["a", "b", "c", "d"],
            {"price": [10.0, 20.0, None, 40.0], "title": ["red tent", "blue tent", "red stove", "boots"]},
        )
        yield client


def judged(**more: object) -> JudgedList:
    fields: dict[str, object] = {
        "key": "1", "query": "red tent", "user": "", "ids": ("a", "b", "c", "d", "gone"),
        "grades": np.array([1.0, 2.0, NAN, 0.0, 0.0]), "columns": {"bm25": np.arange(5, dtype=np.float32)},
    }  # fmt: skip
    return JudgedList(**(fields | more))  # type: ignore[arg-type]


def test_rows_are_what_the_service_computes(client: Client) -> None:
    collected = collect_rows(client, "shop", [judged()])
    rows = collected.rows
    assert rows.feature_names == ("price", "above", "match", "bm25")
    # Judged candidates alone, in the order sent; the mean price is that of the whole list, c and all.
    third = np.float32(10 + 20 + 40) / np.float32(3)
    expected = [[10, 10 - third, 1, 0], [20, 20 - third, 0.5, 1], [40, 40 - third, 0, 3], [NAN, NAN, NAN, 4]]
    np.testing.assert_allclose(rows.matrix, np.array(expected, np.float32), rtol=1e-6)
    assert rows.grades.tolist() == [1, 2, 0, 0]
    assert rows.sizes.tolist() == [4]
    assert rows.keys == ("red tent",)
    assert (collected.candidate_count, collected.unknown_count) == (5, 1)


def test_grades_that_lambdamart_cannot_use_are_refused(client: Client) -> None:
    with pytest.raises(ConfigError, match="whole grades"):
        collect_rows(client, "shop", [judged(grades=np.array([0.5, 0, 0, 0, 0]))])
    with pytest.raises(ConfigError, match="graded candidate"):
        collect_rows(client, "shop", [judged(grades=np.full(5, NAN))])


def test_base_order_is_the_order_of_a_profile_without_a_model(client: Client) -> None:
    one = judged()
    answer = rank_list(client, "shop", one, "scores")
    assert base_order(answer).tolist() == answer.indexes.tolist()
    sent = rank_list(client, "plain", judged(columns={}), "scores")
    assert base_order(sent).tolist() == [0, 1, 2, 3, 4]
    ties = judged(columns={}, ids=("d", "b", "a", "c", "gone"), base_scores=np.array([1.0, 1.0, 2.0, NAN, 1.0]))
    answer = rank_list(client, "plain", ties, "scores")
    assert answer.ids == ["a", "b", "d", "gone", "c"]
    assert base_order(answer).tolist() == answer.indexes.tolist()


def test_measures_are_those_of_the_lists_returned(client: Client) -> None:
    other = judged(key="2", query="boots", grades=np.array([0, 0, 0, 3.0, 0]))
    empty = judged(key="3", query="stove", grades=np.array([0, 0, 0, 0, 0.0]))
    seen: list[tuple[int, int]] = []
    result = evaluate(client, "shop", [judged(), other, empty], Options(k=3), lambda *at: seen.append(at))
    ranked = [rank_list(client, "shop", one, "basic").indexes for one in (judged(), other)]
    expected = [
        metrics.ndcg(one.grades[order], 3, one.grades) for one, order in zip((judged(), other), ranked, strict=True)
    ]
    ndcg = result.comparisons[0]
    assert ndcg.name == "NDCG@3"
    assert ndcg.ranked.mean == pytest.approx(np.mean(expected), rel=1e-12)
    assert ndcg.difference.ties == ndcg.ranked.count == 2
    assert (result.query_count, result.no_relevant_count, result.unjudged_count) == (3, 1, 1)
    assert result.unknown_count == 3
    assert result.model_version == ""
    assert seen[-1] == (3, 3)


def test_lists_of_one_query_count_once(client: Client) -> None:
    twice = [judged(key="1", user="u"), judged(key="2", user="v"), judged(key="3", query="boots")]
    result = evaluate(client, "shop", twice)
    assert (result.list_count, result.query_count) == (3, 2)
    assert result.comparisons[0].ranked.count == 2


def test_nothing_to_measure_is_said(client: Client) -> None:
    with pytest.raises(ConfigError, match="no query has a relevant"):
        evaluate(client, "shop", [judged(grades=np.zeros(5))])
    with pytest.raises(ConfigError, match="graded candidate"):
        evaluate(client, "shop", [judged(grades=np.full(5, NAN))])


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    (tmp_path / "rankd.yaml").write_text("version: 1\nprofiles: {p: {base: nonsense + 1}}\n")
    with pytest.raises(UnavailableError, match=r"rankd\.yaml:2"), ServerProcess(tmp_path):
        pass
