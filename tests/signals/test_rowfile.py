"""Row files: what is malformed is told with its line, and the rest is read."""

from __future__ import annotations

import builtins
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rankd.errors import ConfigError
from rankd.signals import rowfile
from rankd.signals.rowfile import BadRow, Row, read_rows


def write(path: Path, data: str | bytes) -> Path:
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def lines_of(rows: list[Row | BadRow]) -> tuple[list[int], list[int]]:
    return [r.line for r in rows if isinstance(r, Row)], [r.line for r in rows if isinstance(r, BadRow)]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows.jsonl.gz"])
def test_jsonl(tmp_path: Path, name: str) -> None:
    text = (
        '\ufeff{"id": "a", "price": 1.5, "tags": ["x"], "gone": null}\n'
        "\n"
        "{\n"
        "[1]\n"
        '{"price": 2}\n'
        '{"id": ""}\n'
        '{"id": true}\n'
        '{"id": 17}\r\n'
        '{"id": "nul\\u0000é"}'
    )
    rows = list(read_rows(write(tmp_path / name, text)))
    assert rows[0] == Row(1, "a", {"price": 1.5, "tags": ["x"], "gone": None})
    assert rows[-2:] == [Row(8, "17", {}), Row(9, "nul\0é", {})]
    assert lines_of(rows) == ([1, 8, 9], [3, 4, 5, 6, 7])
    assert "list" in rows[2].description  # type: ignore[union-attr]
    assert all(r.description.startswith("expected") for r in rows if isinstance(r, BadRow))


def test_jsonl_survives_bytes_that_are_not_text(tmp_path: Path) -> None:
    data = b'{"id": "a"}\n{"id": "\xff"}\n\x00\x01\n' + b"[" * 100_000 + b'\n{"id": "b"}\n'
    assert lines_of(list(read_rows(write(tmp_path / "r.jsonl", data)))) == ([1, 5], [2, 3, 4])


def test_a_line_too_long_is_one_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rowfile, "MAX_LINE_BYTES", 20)
    path = write(tmp_path / "r.jsonl", '{"id": "a"}\n' + "x" * 70 + '\n{"id": "0123456789"}\n')
    assert lines_of(list(read_rows(path))) == ([1], [2, 3])


def test_a_cut_archive_gives_what_it_has(tmp_path: Path) -> None:
    text = "".join(json.dumps({"id": str(i), "x": hash(str(i))}) + "\n" for i in range(5000))
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(text.encode())[:-4000])
    rows = list(read_rows(path))
    assert isinstance(rows[-1], BadRow)
    assert "damaged" in rows[-1].description
    assert [r.id for r in rows[:100] if isinstance(r, Row)] == [str(i) for i in range(100)]


def test_csv(tmp_path: Path) -> None:
    text = (
        "\ufeffid,price,title\r\n"
        'a,1.5,"two\nlines, quoted ""so"""\r\n'
        "b,,\r\n"
        "c,1\r\n"
        ",1,x\r\n"
        "\r\n"
        'd,1,"un"quoted\r\n'
        "e,2,é\r\n"
    )
    rows = list(read_rows(write(tmp_path / "rows.csv", text)))
    assert rows[0] == Row(2, "a", {"price": "1.5", "title": 'two\nlines, quoted "so"'})
    assert rows[1] == Row(4, "b", {})
    assert rows[-1] == Row(9, "e", {"price": "2", "title": "é"})
    assert lines_of(rows) == ([2, 4, 9], [5, 6, 8])


def test_csv_names_the_cell_that_is_not_utf8(tmp_path: Path) -> None:
    rows = list(read_rows(write(tmp_path / "rows.csv.gz", b"id,title\na,\xff\nb,ok\n")))
    assert lines_of(rows) == ([3], [2])
    assert '"title"' in rows[0].description  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "header"), ("a,b\n", 'a column "id"'), ("id,x,x\n", "x more than once"), ('id,"a"b', "header")],
)
def test_csv_headers(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        list(read_rows(write(tmp_path / "rows.csv", text)))


def test_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {
            "sku": ["a", None, "c"],
            "price": pa.array([1.5, 2.5, None], pa.float32()),
            "released": pa.array([1, 2_000_001, None], pa.timestamp("us")),
            "day": pa.array([1, None, None], pa.date32()),
            "tags": pa.array([["x"], None, []], pa.list_(pa.string())),
            "affinity": pa.array([[("k", 1.0)], None, None], pa.map_(pa.string(), pa.float32())),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    rows = list(read_rows(tmp_path / "rows.parquet", id_field="sku"))
    first: dict[str, Any] = {"price": 1.5, "released": 0, "day": 86_400_000, "tags": ["x"], "affinity": [("k", 1.0)]}
    assert rows[0] == Row(1, "a", first)
    assert isinstance(rows[1], BadRow)
    assert rows[1].line == 2
    assert rows[2] == Row(3, "c", {"tags": []})


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.jsonl: No such file"):
        list(read_rows(tmp_path / "nowhere.jsonl"))
    with pytest.raises(ConfigError, match="expected a name ending in"):
        list(read_rows(tmp_path / "rows.txt"))
    with pytest.raises(ConfigError, match='got "xml"'):
        list(read_rows(tmp_path / "rows.xml", "xml"))
    with pytest.raises(ConfigError, match="expected a Parquet file"):
        list(read_rows(write(tmp_path / "rows.parquet", "id\n")))
    assert list(read_rows(write(tmp_path / "rows.txt", '{"id": "a"}'), "jsonl")) == [Row(1, "a", {})]

    real_import = builtins.__import__

    def without_pyarrow(name: str, *args: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real_import(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    monkeypatch.delitem(sys.modules, "pyarrow")
    with pytest.raises(ConfigError, match=r"rankd\[parquet\]"):
        list(read_rows(tmp_path / "rows.parquet"))
