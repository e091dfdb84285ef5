"""A history built into a running server, and the events after it as they come: every event counts once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner
from support.serving import ServerProcess

from rankd.cli.exit_codes import ExitCode
from rankd.cli.main import cli
from rankd.client import Client

pytest.importorskip("ibis", reason="Ibis (the extra `history`) is not installed")

WORKSPACE = """
version: 1
schema:
  item:
    clicks: {type: windowed_counter, window: 7d, bucket: 1h, from: {events: [click]}}
    views: {type: windowed_counter, window: 7d, bucket: 1h, from: {events: [impression]}}
    ctr: {type: ratio, of: [clicks, views]}
    heat: {type: decayed_counter, half_life: 1d, from: {events: [click], weight: event.value}}
    last_price: {type: f32, from: {events: [click], value: event.value}}
  user:
    tastes: {type: map, half_life: 7d, from: {events: [click], key: event.properties.colour}}
    recent: {type: 'list[5]', from: {events: [click]}}
    last: {type: timestamp, from: {events: [click, impression], value: event.time}}
  user_item:
    n: {type: decayed_counter, half_life: 30d, from: {events: [click]}}
entities:
  user_item: {key: [user, item]}
profiles:
  search: {columns: [bm25], features: {bm25: column.bm25}, base: bm25}
server:
  listen: 127.0.0.1:0
  health_listen: 127.0.0.1:0
  data_dir: null
  drain_seconds: 0
  limits: {max_write_rows: 60}
"""
PAGE = 60
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, str]]:
    """The workspace, and two servers of it."""
    directory = tmp_path_factory.mktemp("workspace")
    (directory / "rankd.yaml").write_text(WORKSPACE)
    with ServerProcess(directory) as first, ServerProcess(directory) as second:
        yield directory, first.wait_ready().address, second.wait_ready().address


def run(*arguments: object, code: int = 0) -> tuple[dict[str, Any], str]:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json"], prog_name="rankd")
    assert result.exit_code == code, result.stderr
    return (json.loads(result.stdout) if result.stdout else {}), result.stderr


def make_events(count: int, end_ms: int) -> list[dict[str, Any]]:
    """In the order in which they come: some late, some twice."""
    random = Random(3)
    events = []
    for number, at in enumerate(sorted(random.sample(range(end_ms - 100 * HOUR_MS, end_ms), count))):
        event = {"event_id": f"e{number}", "type": random.choice(["click", "impression"]), "time": at}
        event |= {"item_id": f"p{random.randrange(20)}", "user_id": f"u{random.randrange(9)}"}
        event |= {"value": random.randrange(1, 90) / 8, "properties": {"colour": random.choice(["red", "blue"])}}
        events.append(event)
    events += random.sample(events, count // 10)
    return sorted(events, key=lambda event: event["time"] + random.randrange(HOUR_MS))


def write(path: Path, events: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def rows(address: str) -> dict[tuple[str, str], dict[str, tuple[Any, int]]]:
    """All that a server has: by entity and id the signals' values and times."""
    found: dict[tuple[str, str], dict[str, tuple[Any, int]]] = {}
    with Client(address) as client:
        for entity, signals in client.describe_schema().schema.entities.items():
            for page in client.scan(entity, list(signals.signals)[:1], page_rows=PAGE):
                if not page.ids:
                    continue
                stored = client.get_signals(entity, page.ids)
                for name, column in stored.columns.items():
                    times = stored.value_times.get(name) or [None] * len(stored)
                    for id_, value, at in zip(stored.ids, column, times, strict=True):
                        if at is not None:
                            found.setdefault((entity, id_), {})[name] = (near(value), at)
    return found


def near(value: Any) -> Any:
    if isinstance(value, list):
        return [member for member, _ in value]
    if isinstance(value, dict):
        return {key: pytest.approx(number, rel=1e-5) for key, number in value.items()}
    return pytest.approx(value, rel=1e-5) if isinstance(value, float) else value


def test_until_and_since_count_every_event_once(servers: tuple[Path, str, str], tmp_path: Path) -> None:
    directory, one, other = servers
    now_ms = round(time.time() * 1000)
    events = make_events(3_000, now_ms)
    cut_ms = now_ms - 30 * HOUR_MS
    # The history goes on beyond the cut, and the stream begins before it.
    history = write(tmp_path / "history.jsonl", events[:2_600])
    stream = write(tmp_path / "stream.jsonl", events[1_500:])
    late = [event for event in events[2_600:] if event["time"] < cut_ms]
    assert not late, "the history has all from before the cut"

    built, _ = run("build-signals", directory, history, "--to", one, "--until", cut_ms)
    assert built["newest_unix_millis"] < cut_ms
    assert built["entities"]["user_item"]["written"] > PAGE, "in parts, each with its times"
    assert built["entities"]["item"] == {"rows": 20, "written": 20, "rejected": 0, "late_values": 0}
    ingested, _ = run("ingest", stream, "--address", one, "--since", cut_ms)
    assert ingested["earlier"] == sum(event["time"] < cut_ms for event in events[1_500:]) > 100

    run("ingest", write(tmp_path / "all.jsonl", events), "--address", other)
    expected = rows(other)
    assert len(expected) > 100
    assert rows(one) == expected

    again, told = run("build-signals", directory, history, "--to", one, "--until", cut_ms)
    assert again["entities"]["item"]["late_values"] > 0
    assert "values were left out, as the server has later ones" in told
    assert rows(one) == expected, "to write the history again changes nothing"


def test_faults_are_said_with_their_place(servers: tuple[Path, str, str], tmp_path: Path) -> None:
    directory, one, _ = servers
    good = {"event_id": "a", "type": "click", "time": "2026-01-01", "item_id": "p"}
    ahead_ms = round(time.time() * 1000) + 3 * HOUR_MS
    faulty = [{"type": "click"}, good | {"position": -1}, good | {"time": None}, good | {"time": ahead_ms},
              good | {"item_id": "q" * 600}]  # fmt: skip
    file = write(tmp_path / "events.jsonl", [*faulty, good])
    told, said = run("build-signals", directory, file, "--to", one, "--out", tmp_path / "out", code=ExitCode.FAILED)
    assert (told["events"], told["rejected"]) == (1, len(faulty))
    places = [line.removeprefix(f"{file}:") for line in said.splitlines() if line.startswith(f"{file}:")]
    assert [place[:12] for place in places] == [
        "1: expected ", "2: position:", "3: time: exp", "4: time: exp", "5: item_id: ",
    ]  # fmt: skip
    assert (tmp_path / "out/item.parquet").exists()
    assert run("build-signals", directory, file, "--out", tmp_path / "out", "--allow-rejects")[0]["rejected"] == 5

    other = tmp_path / "other"
    other.mkdir()
    (other / "rankd.yaml").write_text(WORKSPACE.replace("half_life: 1d", "half_life: 2d"))
    _, said = run("build-signals", other, file, "--to", one, code=ExitCode.FAILED)
    assert "expected item.heat as decayed_counter (half-life 172800 s)" in said
    extra = "    extra: {type: i64, from: {events: [x], value: event.value}}\n  user:"
    (other / "rankd.yaml").write_text(WORKSPACE.replace("  user:", extra, 1))
    assert "the server's schema has no item.extra" in run("build-signals", other, file, "--to", one, code=1)[1]
    assert "cannot reach" in run("build-signals", directory, file, "--to", "127.0.0.1:1", "--timeout", "1", code=3)[1]
    assert "expected --out FOLDER, --to" in run("build-signals", directory, file, code=ExitCode.USAGE)[1]
