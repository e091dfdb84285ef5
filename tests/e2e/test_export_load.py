"""rankd export, load, describe and forget against a real server: what was exported, loaded again, is the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result
from support.serving import ServerProcess

from rankd.cli.main import cli
from rankd.client import Client
from rankd.v1 import signals_pb2 as sp

WORKSPACE = """
version: 1
schema:
  item:
    price: f32
    stock: i64
    released: timestamp
    fresh: bool
    brand: category
    title: string
    vector: embedding[2]
    tags: set
    weights: map
    half: {type: 'embedding[2]', element: f16}
    byte: {type: 'embedding[2]', element: i8}
    tastes: {type: map, half_life: 7d}
    heat: {type: decayed_counter, half_life: 1d, ttl: 3650d}
    clicks: {type: windowed_counter, window: 7d, bucket: 1d}
    shown: {type: windowed_counter, window: 7d, bucket: 1d}
    ctr: {type: ratio, of: [clicks, shown], prior: {mean: 0.02, weight: 50}}
    recent: {type: 'list[3]'}
    sold: {type: bool, default: true}
  user: {age: f32}
  user_category: {taste: f32}
  query_item: {taste: f32}
entities:
  query_item: {key: [query, item]}
  user_category: {key: [user, item.brand]}
profiles:
  search: {columns: [bm25], features: {bm25: column.bm25}, base: bm25}
server:
  listen: 127.0.0.1:0
  health_listen: 127.0.0.1:0
  data_dir: null
  drain_seconds: 0
"""
COUNT = 2_500
DAY = 86_400_000


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    directories = [tmp_path_factory.mktemp(name) for name in ("from", "to")]
    for directory in directories:
        (directory / "rankd.yaml").write_text(WORKSPACE)
    with ServerProcess(directories[0]) as first, ServerProcess(directories[1]) as second:
        yield first.wait_ready().address, second.wait_ready().address


@pytest.fixture(scope="module")
def filled(servers: tuple[str, str]) -> str:
    with Client(servers[0]) as client:
        ids = [f"i{n}" for n in range(COUNT)]
        columns: dict[str, list[Any]] = {
            "price": [0.1 * n if n % 3 else None for n in range(COUNT)],
            "stock": [2**53 + n for n in range(COUNT)],
            "released": [n - 1_000 for n in range(COUNT)],
            "fresh": [n % 2 == 0 for n in range(COUNT)],
            "brand": [f'"{n % 7}", ünï\n|' for n in range(COUNT)],
            "title": [f"title {n}" for n in range(COUNT)],
            "vector": [[n / 7, -1.5] for n in range(COUNT)],
            "tags": [{f"t{n % 5}", "x|y"} if n % 4 else set() for n in range(COUNT)],
            "weights": [{"k,": n / 3} if n % 5 else None for n in range(COUNT)],
            "half": [[n / 7, -1.5] for n in range(COUNT)],
            "byte": [[n / 7, -1.5] for n in range(COUNT)],
            "tastes": [{"k": n / 3} for n in range(COUNT)],
            "heat": [n / 3 if n % 3 else None for n in range(COUNT)],
            "clicks": [{DAY * (n % 9): n / 3, DAY * 9: 1} if n % 4 else None for n in range(COUNT)],
            "shown": [{DAY * (n % 9): n} for n in range(COUNT)],
            "recent": [[(f"|{n}", n + 2), ("b", 1)] if n % 4 else [] for n in range(COUNT)],
        }
        client.write_signals("item", ids, columns, times=[1_700_000_000_000 + n for n in range(COUNT)])
        client.write_signals("item", ids[:9], {"stock": list(range(9))}, times=1_750_000_000_000)
    return servers[0]


def run(address: str, *arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(a) for a in arguments], env={"RANKD_ADDRESS": address}, prog_name="rankd")
    assert result.exit_code != 70, result.stderr
    return result


def rows_of(address: str) -> dict[str, tuple[dict[str, Any], dict[str, int | None]]]:
    found = {}
    with Client(address) as client:
        for page in client.scan("item"):
            for row, (id_, values) in enumerate(page.rows()):
                plain = {name: v.tolist() if hasattr(v, "tolist") else v for name, v in values.items()}
                found[id_] = plain, {name: times[row] for name, times in page.value_times.items()}
    return found


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_an_export_loaded_again_is_the_same(filled: str, servers: tuple[str, str], tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"items.{suffix}"
    assert run(filled, "export", "-o", file, "--time-field", "at").exit_code == 0
    target = servers[1]
    with Client(target) as client:
        ids = [id_ for page in client.scan("item", ["price"]) for id_ in page.ids]
        for start in range(0, len(ids), 1_000):
            client.delete_signals("item", ids[start : start + 1_000])
    before = rows_of(filled)
    # Rows that were deleted a moment ago are not brought back by older ones: ids of their own.
    renamed = tmp_path / f"renamed.{suffix}"
    _rename(file, renamed, suffix)
    loaded = run(target, "load", renamed, "--time-field", "at", "--batch-rows", "500")
    assert loaded.exit_code == 0, loaded.stderr
    assert loaded.stdout.startswith(f"{COUNT:,} rows written, 0 rejected")
    after = {id_.removeprefix(suffix): row for id_, row in rows_of(target).items()}
    assert after.keys() == before.keys()
    for id_, row in before.items():
        assert after[id_] == row, id_


def _rename(file: Path, to: Path, suffix: str) -> None:
    if suffix == "parquet":
        arrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
        table = parquet.read_table(file)
        ids = arrow.array([suffix + i for i in table.column("id").to_pylist()])
        parquet.write_table(table.set_column(0, "id", ids), to)
    elif suffix == "jsonl":
        records = [json.loads(line) for line in file.read_text().splitlines()]
        to.write_text("".join(json.dumps({**r, "id": suffix + r["id"]}) + "\n" for r in records))
    else:
        import csv

        with file.open(newline="") as old, to.open("w", newline="") as new:
            reader = csv.DictReader(old)
            writer = csv.DictWriter(new, reader.fieldnames or [])
            writer.writeheader()
            writer.writerows({**r, "id": suffix + r["id"]} for r in reader)


def test_an_export_is_taken_up_again(filled: str, tmp_path: Path) -> None:
    whole, cut, kept = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl", tmp_path / "cursor"
    assert run(filled, "export", "-o", whole).exit_code == 0
    with Client(filled) as client:
        page = next(iter(client.scan("item", page_rows=100)))
    lines = whole.read_text().splitlines(keepends=True)[: len(page)]
    assert [json.loads(line)["id"] for line in lines] == page.ids
    cut.write_text("".join(lines) + '{"id": "half a li')
    state = {"cursor": page.cursor, "rows": len(page), "bytes": len("".join(lines).encode()), "done": False}
    kept.write_text(json.dumps(state))
    assert run(filled, "export", "-o", cut, "--resume", kept).exit_code == 0
    assert cut.read_text() == whole.read_text()
    again = run(filled, "export", "-o", cut, "--resume", kept)
    assert again.exit_code == 0 and cut.read_text() == whole.read_text(), "it is done"
    kept.write_text("nonsense")
    assert run(filled, "export", "-o", cut, "--resume", kept).exit_code == 2


def test_an_export_to_standard_output(filled: str) -> None:
    result = run(filled, "export", "--signals", "stock")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(records) == COUNT and records[0].keys() == {"id", "stock"}
    assert run(filled, "export", "--format", "parquet").exit_code == 2
    assert run(filled, "export", "--entity", "brand").exit_code == 2
    assert run(filled, "export", "--signals", "prize").exit_code == 2


def test_a_load_is_taken_up_again(servers: tuple[str, str], tmp_path: Path) -> None:
    file, kept = tmp_path / "u.csv", tmp_path / "place"
    file.write_text("id,age,at\n" + "".join(f"u{n},{n},{1000 + n}\n" for n in range(50)))
    kept.write_text(json.dumps({"files": [str(file)], "file": 0, "line": 31}))
    options = ("load", "--entity", "user", file, "--time-field", "at", "--resume", kept, "--batch-rows", "7")
    assert run(servers[1], *options).stdout.startswith("20 rows written")
    assert json.loads(kept.read_text())["file"] == 1
    assert run(servers[1], *options).stdout.startswith("0 rows written")
    file.write_text("id,age,at\nu40,7,5\nu41,7,\nu42,7,9999\n")
    kept.unlink()
    result = run(servers[1], *options)
    assert result.stdout.startswith("2 rows written, 1 rejected"), result.stdout
    assert 'expected a time in "at"' in result.stderr
    with Client(servers[1]) as client:
        assert client.get_signals("user", ["u42"]).columns["age"] == [7]


def test_rows_of_a_file_for_every_kind(servers: tuple[str, str], tmp_path: Path) -> None:
    """As one would write them by hand: members of lists need no times, buckets begin at times as people write them."""
    file = tmp_path / "by_hand.jsonl"
    row = {"id": "hand", "heat": 2.5, "clicks": {"2026-01-02": 3, "2026-01-01T00:00:00Z": 1}, "recent": ["b", "a"]}
    more = {"half": [1, 2], "byte": [1, 2], "tastes": {"x": 1}, "at": "2026-01-02T03:00:00Z"}
    bad = [{"id": "bad", "clicks": 3}, {"id": "bad", "recent": "a|b|c|d"}, {"id": "bad", "ctr": 1}]
    records = [row | more, *({**record, "at": 1} for record in bad)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    result = run(servers[1], "load", file, "--time-field", "at")
    assert result.stdout.startswith("1 rows written, 3 rejected")
    assert [line.partition(".jsonl:")[2] for line in result.stderr.splitlines()] == [
        "2: clicks: expected an object from times at which buckets begin to finite numbers, got 3",
        "3: recent: expected at most 3 members, got 4",
        "4: ctr: expected nothing, since a ratio is computed from its counters, got 1",
    ]
    got = json.loads(run(servers[1], "get", "hand", "--json").stdout)["rows"][0]
    at = "2026-01-02T03:00:00.000Z"
    assert got["written_at"] == at and got["signals"]["recent"] == [["b", at], ["a", at]]
    assert got["signals"]["clicks"] == {"2026-01-01T00:00:00.000Z": 1, "2026-01-02T00:00:00.000Z": 3}
    assert (got["signals"]["heat"], got["signals"]["ctr"]) == (2.5, 0.02)
    shown = run(servers[1], "get", "hand").stdout
    assert "b (" in shown and "2026-01-02T00:00:00.000Z: 3.0" in shown


def test_ids_of_composite_entities(servers: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"id": "5:Red X/p1", "taste": 1}\n{"id": "p1", "taste": 1}\n{"id": "9:a/p1", "taste": 1}\n')
    result = run(servers[1], "load", file, "--entity", "query_item")
    assert result.stdout.startswith("1 rows written, 2 rejected")
    assert ':2: id: expected an id joined of query and item, such as "5:QUERY/ITEM", got "p1"' in result.stderr
    stored = json.loads(run(servers[1], "get", "--entity", "query_item", "5:red x/p1", "--json").stdout)
    assert stored["rows"][0]["signals"] == {"taste": 1}
    with Client(servers[1]) as client:
        assert client.get_signals("query_item", ["5:RED x/p1"]).ids == ["5:RED x/p1"]
        assert client.delete_signals("query_item", ["5:RED X/p1"]) == 1


def test_describe_and_forget(filled: str) -> None:
    with Client(filled) as client:
        client.write_signals("user", ["u1", "u2"], {"age": [1, 2]})
        client.write_signals("user_category", ["2:u1/a", "2:u2/a"], {"taste": [1, 2]})
    document = json.loads(run(filled, "describe", "--json").stdout)
    item = document["entities"]["item"]
    assert item["rows"] == COUNT and item["bytes"] > 0
    assert 0.6 * COUNT < item["signals"]["price"]["filled"] < 0.7 * COUNT
    assert item["signals"]["price"]["median_age_seconds"] > 0
    assert document["entities"]["user_category"]["key"] == ["user", "item.brand"]
    shown = run(filled, "describe").stdout
    assert "embedding[2]" in shown and "67 %" in shown and "█" in shown
    assert "list[3]" in shown and "of clicks / shown, prior 0.02 of weight 50" in shown and "default true" in shown
    assert item["signals"]["recent"]["filled"] == COUNT
    assert item["signals"]["ctr"]["prior"] == {"mean": 0.02, "weight": 50}
    assert "filled" not in run(filled, "describe", "--no-statistics").stdout
    gone = json.loads(run(filled, "forget", "u1", "--json").stdout)
    assert gone["deleted"] == {"user": 1, "user_category": 1}
    assert run(filled, "forget", "u1").exit_code == 1
    with grpc.insecure_channel(filled) as channel:
        from rankd.v1.signals_pb2_grpc import SignalServiceStub

        left = SignalServiceStub(channel).DescribeSchema(sp.DescribeSchemaRequest())
    assert {e.name: e.row_count for e in left.entities}["user"] == 1
