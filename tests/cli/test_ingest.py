"""rankd ingest: files and standard input, against a server that counts."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.fake_collect import FakeCollect, collecting

from rankd.cli.exit_codes import ExitCode
from rankd.cli.main import cli


@pytest.fixture
def fake() -> Iterator[FakeCollect]:
    with collecting() as served:
        yield served


def run(fake: FakeCollect, *arguments: str | Path) -> tuple[int, str, str]:
    sent = ["ingest", *map(str, arguments), "--address", f"127.0.0.1:{fake.port}", "--timeout", "1"]
    result = CliRunner().invoke(cli, sent, prog_name="rankd")
    assert result.exit_code != ExitCode.INTERNAL, result.stderr
    return result.exit_code, result.stdout, result.stderr


def lines(count: int, **fields: Any) -> str:
    return "".join(json.dumps({"event_id": f"e{i}", "type": "click", **fields}) + "\n" for i in range(count))


def test_a_file_in_several_calls(fake: FakeCollect, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl.gz"
    file.write_bytes(gzip.compress(lines(2_500, item_id="p", time=5).encode()))
    code, out, err = run(fake, file)
    assert code == 0, err
    assert out.startswith("2,500 events taken (0 of them had come before), 0 rejected")
    assert sorted(fake.call_sizes) == [500, 1_000, 1_000]
    assert len(fake.events) == 2_500
    assert (fake.events["e7"].item_id, fake.events["e7"].unix_millis) == ("p", 5)
    code, out, _ = run(fake, file, "--json")
    assert (json.loads(out)["accepted"], json.loads(out)["repeated"]) == (2_500, 2_500)


def test_what_is_rejected_is_told_with_its_line(fake: FakeCollect, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(lines(2) + '{"event_id": "r", "type": "refused"}\n{"type": "click"}\n{"event_id": "x", "typ": 1}\n')
    rejects = tmp_path / "rejects.jsonl"
    code, out, err = run(fake, file, "--rejects", rejects)
    assert code == ExitCode.FAILED
    assert "2 events taken (0 of them had come before), 3 rejected" in out
    assert err.splitlines() == [
        f"{file}:3: type: expected another",
        f'{file}:4: expected an id, text or an integer, in "event_id", got nothing',
        f"{file}:5: expected a field of events, got `typ`; did you mean `type`?",
    ]
    assert json.loads(rejects.read_text().splitlines()[0]) == {
        "file": str(file), "line": 3, "id": "r", "field": "type", "reason": "expected another",
    }  # fmt: skip
    assert run(fake, file, "--allow-rejects")[0] == 0


def test_what_is_too_large_is_halved(fake: FakeCollect, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(lines(9) + '{"event_id": "r", "type": "refused"}\n')
    fake.most = 3
    code, out, err = run(fake, file)
    assert code == ExitCode.FAILED
    assert out.startswith("9 events taken")
    assert f"{file}:10: type: expected another" in err
    assert max(fake.call_sizes) <= 3


def test_it_says_from_where_to_go_on(fake: FakeCollect, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(lines(100))
    fake.fail_after = 4
    code, _, err = run(fake, file, "--batch-events", "10", "--in-flight", "1")
    assert code == ExitCode.UNREACHABLE
    assert "40 events are taken" in err and "--from-line 41" in err
    fake.fail_after = 1_000
    code, out, err = run(fake, file, "--from-line", "41")
    assert out.startswith("60 events taken (0 of them had come before)")
    assert set(fake.counts.values()) == {1} and len(fake.counts) == 100


def test_standard_input(fake: FakeCollect, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rankd", "ingest", "-", "--address", f"127.0.0.1:{fake.port}"]
    done = subprocess.run(command, input=lines(30), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(fake.events) == 30


UBI = [
    {"index": {"_index": "ubi_queries", "_id": "q-doc"}},
    {"query_id": "q1", "user_query": "ps4", "client_id": "c", "timestamp": "2024-12-10T00:50:26.457Z"},
    {"index": {"_index": "ubi_events", "_id": "ev1"}},
    {"action_name": "click", "query_id": "q1", "session_id": "s", "client_id": "c", "user_id": "",
     "timestamp": "2024-12-10T00:50:30.466Z", "message": None, "application": "shop",
     "event_attributes": {"object": {"object_id": "B08", "object_id_field": "asin"}, "position": {"ordinal": 2}}},
    {"action_name": "add_to_cart", "client_id": "c", "query_id": "q9", "timestamp": 1717527762118,
     "event_attributes": {"dwell_time": 51.5, "session_id": "s2",
                          "object": {"object_id": "403", "object_detail": {"price": 22695, "supplier": "Philips"}}}},
    {"action_name": "search", "client_id": "c", "timestamp": 1, "event_attributes": None, "user_query": "toner"},
    {"nothing": 1},
]  # fmt: skip


def test_user_behavior_insights(fake: FakeCollect, tmp_path: Path) -> None:
    file = tmp_path / "ubi.ndjson"
    file.write_text("".join(json.dumps(document) + "\n" for document in UBI))
    code, _, err = run(fake, file, "--format", "ubi")
    assert code == ExitCode.FAILED
    what = "expected an event with action_name, or a query with query_id and user_query, got neither"
    assert err.splitlines() == [f"{file}:7: {what}"]
    click, cart, search = sorted(fake.events.values(), key=lambda event: -event.unix_millis)
    assert (click.event_id, click.type, click.item_id, click.query) == ("ev1", "click", "B08", "ps4")
    assert (click.visitor_id, click.session_id, click.position, click.unix_millis) == ("c", "s", 2, 1733791830466)
    assert {n: v.text for n, v in click.properties.items()} == {
        "application": "shop", "query_id": "q1", "object_id_field": "asin",
    }  # fmt: skip
    assert (cart.type, cart.item_id, cart.session_id, cart.query) == ("cart", "403", "s2", "")
    assert (cart.properties["price"].number, cart.properties["dwell_time"].number) == (22695, 51.5)
    assert (search.type, search.query, len(search.event_id)) == ("search", "toner", 32)
    first = set(fake.events)
    run(fake, file, "--format", "ubi")
    assert set(fake.events) == first, "read again, the ids are the same"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected FILE... or --redis-stream URL KEY"),
        (["-", "--redis-stream", "redis://h", "k"], "one of the two"),
        (["--redis-stream", "redis://h", "k"], "expected --group NAME"),
        (["--redis-stream", "redis://h", "k", "--group", "g", "--from-line", "2"], "are of files"),
        (["a", "b", "--from-line", "2"], "--from-line: expected one file"),
        (["nowhere.jsonl"], "expected a file, got nowhere.jsonl"),
        (["--redis-stream", "http://h", "k", "--group", "g"], "expected the URL of a Redis"),
    ],
)
def test_usage(fake: FakeCollect, arguments: list[str], message: str) -> None:
    code, _, err = run(fake, *arguments)
    assert code in (ExitCode.USAGE, ExitCode.FAILED)
    assert message in " ".join(err.split())
