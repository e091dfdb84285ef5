"""Judgment files: three forms, one meaning; every fault named with file and line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from rankd.errors import ConfigError
from rankd.learn.judgments import JudgedList, read_judgments, write_judgments


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_with_everything(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "j.csv",
        "query,id,grade,user,base_score,position,as_of,column.bm25,context.hour,context.device\n"
        'tent,a,2,ann,1.5,1,2026-01-01T00:00:00Z,7,12,phone\n"tent",b,,ann,,2,2026-01-01T00:00:00Z,,12,phone\n'
        "tent,a,0,bob,2.5,3,1767225600,8,13,desk\n",
    )
    first, second = read_judgments(path)
    assert (first.query, first.user, first.ids, first.key) == ("tent", "ann", ("a", "b"), "tent\tann")
    assert first.grades[0] == 2
    assert math.isnan(first.grades[1])
    assert first.base_scores is not None
    assert first.base_scores[0] == 1.5
    assert math.isnan(first.base_scores[1])
    assert first.positions is not None
    assert first.positions.tolist() == [1, 2]
    assert first.as_of_s == second.as_of_s == 1767225600.0
    assert first.columns["bm25"].dtype == np.float32
    assert first.context == {"hour": 12.0, "device": "phone"}
    assert second.ids == ("a",)


def test_aliases_and_order(tmp_path: Path) -> None:
    path = put(tmp_path, "j.csv", "query,docid,rating\nb,2,3\na,1,0\nb,1,1\n")
    lists = read_judgments(path)
    assert [(judged.query, judged.ids) for judged in lists] == [("b", ("2", "1")), ("a", ("1",))]


def test_qrels_with_and_without_topics(tmp_path: Path) -> None:
    path = put(tmp_path, "j.qrels", "7 0 d1 2\n7 0 d2 0\n")
    assert read_judgments(path)[0].query == "7"
    topics = put(tmp_path, "topics.tsv", "7\trunning shoes\n")
    (judged,) = read_judgments(path, topics)
    assert (judged.query, judged.key, judged.ids) == ("running shoes", "7", ("d1", "d2"))
    spaced = put(tmp_path, "tabs.qrels", "running shoes\t0\td1\t2\n")
    assert read_judgments(spaced)[0].query == "running shoes"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    before = JudgedList(
        key="s1",
        query="größe",
        user="u",
        ids=("a", "b"),
        grades=np.array([1.0, math.nan]),
        base_scores=np.array([0.25, math.nan]),
        positions=np.array([1, 2]),
        as_of_s=1.5,
        columns={"bm25": np.array([math.nan, 0.1], np.float32)},
        context={"hour": 3.0, "device": "phone"},
    )
    assert write_judgments(tmp_path / "j.jsonl", [before]) == 2
    (after,) = read_judgments(tmp_path / "j.jsonl")
    assert (after.key, after.query, after.user, after.ids, after.as_of_s) == ("s1", "größe", "u", ("a", "b"), 1.5)
    assert after.context == before.context
    np.testing.assert_array_equal(after.grades, before.grades)
    np.testing.assert_array_equal(after.base_scores, before.base_scores)
    np.testing.assert_array_equal(after.positions, before.positions)
    np.testing.assert_array_equal(after.columns["bm25"], before.columns["bm25"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("j.csv", "", "expected a header"),
        ("j.csv", "query,id,grade\n", "at least one judgment"),
        ("j.csv", "query,grade\nq,1\n", ":1: expected a field id"),
        ("j.csv", "query,id,grade,price\n", ':1: .*got "price"'),
        ("j.csv", "query,id,docid\n", '"id" twice'),
        ("j.csv", "query,id,grade\nq,a\n", ":2: expected 3 values"),
        ("j.csv", "query,id,grade\nq,a,x\n", ':2: grade: expected a number, got "x"'),
        ("j.csv", "query,id,grade\nq,a,-1\n", ":2: grade: expected 0 or more"),
        ("j.csv", "query,id,grade\nq,a,inf\n", ":2: grade: expected a finite"),
        ("j.csv", "query,id,grade\nq,,1\n", ":2: expected an id"),
        ("j.csv", "query,id,grade\nq,a,1\nq,a,2\n", ':3: expected distinct ids in a list, got "a".*:2'),
        ("j.csv", "query,id,grade,position\nq,a,1,0\n", ":2: position"),
        ("j.csv", "query,id,grade,as_of\nq,a,1,noon\n", ":2: as_of"),
        ("j.csv", "query,id,context.x\nq,a,1\nq,b,2\n", ":3: context.x: expected one value"),
        ("j.csv", "list,query,id\n1,p,a\n1,q,b\n", ":3: query: expected one value"),
        ("j.jsonl", "[1]\n", ":1: expected a JSON object, got list"),
        ("j.jsonl", "{\n", ":1: expected a JSON object"),
        ("j.jsonl", '{"id": "a", "grade": true}\n', ":1: grade: expected a text or a number"),
        ("j.qrels", "7 0 d1\n", ":1: expected topic, iteration, id and grade"),
    ],
)
def test_faults_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_judgments(put(tmp_path, name, text))


def test_absent_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_judgments(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"query,id\n\xff\xfe\x00,a\n")
    with pytest.raises(ConfigError, match="cannot read"):
        read_judgments(tmp_path / "b.csv")
