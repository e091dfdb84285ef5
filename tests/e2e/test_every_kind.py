"""A signal of every kind in a service of two workers: written by the client, read back, ranked by, aged, described,
scraped, and there again after a restart."""

from __future__ import annotations

import math
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from support.serving import ServerProcess

from rankd.cli.main import cli
from rankd.client import Client, composite_id
from rankd.v1.ranking_pb2 import User

WORKSPACE = """
version: 1
schema:
  item:
    price: {type: f32, default: 1.5, ttl: 7d}
    stock: i64
    released: timestamp
    active: {type: bool, default: true}
    brand: category
    category: category
    title: string
    v32: embedding[4]
    v16: {type: 'embedding[4]', element: f16}
    v8: {type: 'embedding[4]', element: i8}
    tags: set
    weights: map
    heat: {type: decayed_counter, half_life: 1d}
    clicks: {type: windowed_counter, window: 7d, bucket: 6h}
    shown: {type: windowed_counter, window: 7d, bucket: 6h}
    ctr: {type: ratio, of: [clicks, shown], prior: {mean: 0.02, weight: 50}}
    share: {type: ratio, of: [clicks, shown]}
  user:
    affinity: {type: map, half_life: 7d}
    recent: list[3]
    v: embedding[4]
  session: {viewed: 'list[3]', seen: i64}
  query: {ctr: f32}
  query_item: {clicks: {type: decayed_counter, half_life: 30d}}
  user_category: {clicks: f32}
entities:
  query_item: {key: [query, item]}
  user_category: {key: [user, item.category]}
profiles:
  all:
    features:
      price: item.price
      stock: item.stock
      days: age_days(item.released)
      active: item.active
      acme: item.brand == "acme"
      title: token_overlap(request.query, item.title)
      v32: dot(user.v, item.v32)
      v16: dot(user.v, item.v16)
      v8: dot(user.v, item.v8)
      tagged: contains(item.tags, "new")
      weight: lookup(item.weights, "x")
      heat: item.heat
      clicks: item.clicks
      ctr: item.ctr
      share: item.share
      taste: lookup(user.affinity, item.category)
      recent: contains(user.recent, item.brand)
      seen: session.seen
      viewed: overlap(session.viewed, item.tags)
      query_ctr: query.ctr
      pair: query_item.clicks
      in_category: user_category.clicks
    base: coalesce(item.heat, 0)
server:
  listen: 127.0.0.1:0
  health_listen: 127.0.0.1:0
  metrics_interval_seconds: 0.1
  drain_seconds: 0
"""
DAY_MS = 86_400_000
BUCKET_MS = DAY_MS // 4
NAN = math.nan


@dataclass(frozen=True)
class World:
    """A service that has been written to. `now_ms`: when."""

    directory: Path
    address: str
    metrics: str
    now_ms: int


def fill(client: Client, now_ms: int) -> None:
    """Items a and b; c is written to nowhere."""
    bucket = now_ms // BUCKET_MS * BUCKET_MS
    a = {
        "price": 10, "stock": 5, "released": now_ms - 2 * DAY_MS, "active": False, "brand": "acme", "category": "shoes",
        "title": "Red Shoes", "v32": [1, 2, 3, 4], "v16": [1, 2, 3, 4], "v8": [1, 2, 3, 4], "tags": {"new", "x"},
        "weights": {"x": 2.5}, "clicks": {bucket: 3, bucket - BUCKET_MS: 2}, "shown": {bucket: 10},
    }  # fmt: skip
    columns = {name: [value, None] for name, value in a.items()}
    columns["brand"][1], columns["category"][1] = "zeta", "hats"
    columns["clicks"][1] = {np.datetime64(bucket, "ms"): 1}
    assert client.write_signals("item", ["a", "b"], columns, times=now_ms).written_count == 2
    added = {"heat": "add"}
    heat = {"heat": [1, 2.5, 4]}
    times = [now_ms - DAY_MS, now_ms, now_ms - 2 * DAY_MS]
    client.write_signals("item", ["a", "a", "b"], heat, times=times, operations=added)  # type: ignore[arg-type]
    then = now_ms - 7 * DAY_MS
    recent = [("acme", then), ("z", then - 1)]
    user = {"affinity": [{"shoes": 4}], "recent": [recent], "v": [[1, 1, 1, 1]]}
    client.write_signals("user", ["u1"], user, times=then)
    client.write_signals("session", ["s1"], {"viewed": [["new", "q"]], "seen": [7]}, times=now_ms)
    client.write_signals("query", ["Red  SHOES"], {"ctr": [0.25]}, times=now_ms)
    client.write_signals("query_item", [composite_id(["Red  SHOES", "a"])], {"clicks": [5]}, times=now_ms)
    client.write_signals("user_category", [composite_id(["u1", "shoes"])], {"clicks": [9]}, times=now_ms)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("kinds")
    (directory / "rankd.yaml").write_text(WORKSPACE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        metrics = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {"RANKD_SERVER__WORKERS": "2", "RANKD_SERVER__METRICS_LISTEN": metrics}
    with ServerProcess(directory, **environment) as server:
        address = server.wait_ready().address
        now_ms = int(time.time() * 1000)
        with Client(address) as client:
            fill(client, now_ms)
        yield World(directory, address, metrics, now_ms)
        before = rows_of(address)
        assert server.stop() == 0, "".join(server.log)
    with ServerProcess(directory, **environment) as server:
        assert rows_of(server.wait_ready().address) == before, "after a restart"


def rows_of(address: str) -> dict[str, Any]:
    """All rows with the times of all values."""
    with Client(address, timeout_s=10, wait_for_ready=True) as client:
        return {
            name: sorted((repr(row), repr(page.value_times)) for page in client.scan(name) for row in page.rows())
            for name in client.describe_schema().schema.entities
        }


EXPECTED = {
    "price": (10, 1.5, 1.5), "stock": (5, NAN, NAN), "days": (2, NAN, NAN), "active": (0, 1, 1), "acme": (1, 0, NAN),
    "title": (1, NAN, NAN), "v32": (10, NAN, NAN), "v16": (10, NAN, NAN), "v8": (10, NAN, NAN), "tagged": (1, NAN, NAN),
    "weight": (2.5, NAN, NAN), "heat": (3, 1, NAN), "clicks": (5, 1, NAN), "ctr": (6 / 60, 2 / 50, 0.02),
    "share": (0.5, NAN, NAN), "taste": (2, NAN, NAN), "recent": (1, 0, NAN), "seen": (7, 7, 7), "viewed": (1, NAN, NAN),
    "query_ctr": (0.25, 0.25, 0.25), "pair": (5, NAN, NAN), "in_category": (9, NAN, NAN),
}  # fmt: skip
LATER = {
    "price": (1.5, 1.5, 1.5), "days": (12, NAN, NAN), "heat": (3 / 1024, 1 / 1024, NAN), "clicks": (0, 0, NAN),
    "ctr": (0.02, 0.02, 0.02), "share": (NAN, NAN, NAN), "taste": (2 * 0.5 ** (10 / 7), NAN, NAN),
    "pair": (5 * 0.5 ** (1 / 3), NAN, NAN), "stock": (5, NAN, NAN),
}  # fmt: skip
"""Ten days later."""


@pytest.mark.parametrize(("days", "expected"), [(0, EXPECTED), (10, LATER)])
def test_expressions_read_every_kind_as_of_a_time(world: World, days: int, expected: dict[str, Any]) -> None:
    as_of = datetime.fromtimestamp(world.now_ms / 1000, UTC) + timedelta(days=days)
    with Client(world.address) as client:
        user = User(user_id="u1", session_id="s1")
        ranked = client.rank("all", ["a", "b", "c"], query="red shoes", user=user, view="features", as_of=as_of)
    assert ranked.ids == ["a", "b", "c"]
    for name, values in expected.items():
        assert ranked.features[name].tolist() == pytest.approx(values, rel=2e-3, nan_ok=True), name
    ages = {name: of.tolist() for name, of in ranked.signal_ages.items()}
    day, a_little = 86_400, pytest.approx
    assert ages["user.recent"] == a_little([(7 + days) * day] * 3, abs=0.01)
    assert ages["item.heat"] == a_little([days * day, (2 + days) * day, NAN], abs=0.01, nan_ok=True)
    assert ages["item.ctr"][0] == ages["item.clicks"][0] == a_little(days * day, abs=0.01)
    assert ages["query_item.clicks"] == a_little([days * day, NAN, NAN], abs=0.01, nan_ok=True)
    if not days:
        assert ages["item.price"] == a_little([0, NAN, NAN], abs=0.01, nan_ok=True)


def test_ages_are_shown_to_people(world: World) -> None:
    arguments = ["rank", "--profile", "all", "--ids", "a,b", "--user", "u1", "--session", "s1", "--view", "features"]
    result = CliRunner().invoke(cli, [*arguments, "--address", world.address])
    heads, _, first, _ = (line.rstrip() for line in result.stdout.splitlines())
    ages = dict(zip(re.split(" {2,}", heads.strip()), re.split(" {2,}", first.strip()), strict=True))
    assert (ages["age of user.recent"], ages["seen"]) == ("7.0 d", "7") and "age of item.heat" in ages
    shown = CliRunner().invoke(cli, ["get", "u1", "--entity", "user", "--address", world.address]).stdout
    assert "acme (7.0 d ago), z (7.0 d ago)" in shown


def test_every_kind_reads_back_as_it_was_written(world: World) -> None:
    with Client(world.address) as client:
        stored = client.get_signals("item", ["a"])
        a = {name: values[0] for name, values in stored.columns.items()}
        assert client.get_signals("query_item", ["9:red shoes/a"]).columns["clicks"] == [5]
        [(_, user)] = client.get_signals("user", ["u1"]).rows()
        [(_, session)] = client.get_signals("session", ["s1"]).rows()
    bucket = np.datetime64(world.now_ms // BUCKET_MS * BUCKET_MS, "ms")
    assert a["clicks"] == {bucket - BUCKET_MS: 2, bucket: 3} and a["heat"] == 3 and a["ctr"] == np.float32(0.1)
    assert a["v16"].tolist() == [1, 2, 3, 4] and a["v8"].tolist() == pytest.approx([1, 2, 3, 4], abs=4 / 254)
    then = np.datetime64(world.now_ms - 7 * DAY_MS, "ms")
    assert user["recent"] == [("acme", then), ("z", then - 1)] and user["affinity"] == {"shoes": 4}
    now = np.datetime64(world.now_ms, "ms")
    assert session == {"viewed": [("new", now), ("q", now)], "seen": 7}
    assert stored.value_times["heat"] == [world.now_ms]


def test_what_was_added_is_seen_by_all_workers_at_once(world: World) -> None:
    with Client(world.address, connections=1) as writer, Client(world.address, connections=8) as reader:
        for number in range(1, 25):
            columns = {"heat": [1], "clicks": [1], "shown": [2]}
            writer.write_signals("item", ["live"], columns, operations=dict.fromkeys(columns, "add"))
            pages = [reader.rank("all", ["live"], view="features") for _ in range(8)]
            found = [[float(page.features[n][0]) for n in ("clicks", "share")] for page in pages]
            assert found == [[number, 0.5]] * 8
        assert writer.delete_signals("item", ["live"]) == 1
        assert all(math.isnan(reader.rank("all", ["live"], view="features").features["clicks"][0]) for _ in range(8))


def test_fill_and_ages_are_described_and_scraped(world: World) -> None:
    with Client(world.address) as client:
        found = client.describe_schema(statistics=True)
    item = found.statistics["item"]
    filled = {name: item[name].filled_count for name in item}
    assert filled == {**dict.fromkeys(filled, 1), "brand": 2, "category": 2, "heat": 2, "clicks": 2}
    assert "ctr" not in filled and found.schema.entities["item"].signals["ctr"].prior is not None
    assert 2 * 86_400 <= (item["heat"].greatest_age_s or 0) < 2 * 86_400 + 600
    deadline = time.monotonic() + 10
    while True:
        with urllib.request.urlopen(f"http://{world.metrics}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            scraped = {
                (s.name.removeprefix("rankd_signal_"), *s.labels.values()): s.value for f in families for s in f.samples
            }
        if scraped[("rows", "item")] == 2:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for name, count in filled.items():
        assert scraped[("missing_ratio", "item", name)] == 1 - count / 2, name
    assert scraped[("missing_ratio", "user", "recent")] == 0
    assert scraped[("age_max_seconds", "user", "recent")] >= 7 * 86_400
