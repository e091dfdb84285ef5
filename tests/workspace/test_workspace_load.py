"""Good workspaces read to the right values; settings come from file, environment and options, in that order."""

# ruff: noqa: E501 - tables
from __future__ import annotations

import re
from pathlib import Path

import pytest

from rankd.errors import WorkspaceError
from rankd.limits import HARD_REQUEST_LIMITS, RequestLimits
from rankd.types.profile import ContextFeature, ContextKind, Feature, ModelSpec
from rankd.types.schema import Element, EventSource, Prior, Signal, SignalKind
from rankd.workspace import Override, Settings, load_workspace
from rankd.workspace.environment import settings_paths, variable_name
from rankd.workspace.signals import bucket_ms

FULL = """
version: 1
schema:
  item:
    title: string
    price: {type: f32, default: 0.5, ttl: 7d}
    stock: {type: bool, default: true}
    released: timestamp
    vector: embedding[16]
    on: i64
  user:
    affinity: map
models:
  shop: {file: models/shop.txt}
  other-1.2: {file: /abs/m.bin, format: linear, features: [b, a]}
profiles:
  search:
    columns: [bm25]
    context: {device: category, hour: number, v: 'embedding[4]'}
    features: &features
      price_log: log1p(item.price)
      bm25: column.bm25
      one: 1
      tiny: 1e-3
    base: 0.7 * bm25 - 0.1 * price_log
    rerank: 200
    model: shop
  browse:
    features:
      <<: *features
      one: 2.5
    entity: user
server:
  listen: "[::1]:0"
  data_dir: null
  limits: {max_candidates: 50}
tracing:
  otlp_endpoint: http://127.0.0.1:4317
"""


def write(directory: Path, text: str | bytes) -> Path:
    file = directory / "rankd.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return directory


def problems(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(WorkspaceError) as caught:
        load_workspace(path, environ or {})
    assert caught.value.problems
    return [str(p) for p in caught.value.problems]


def test_everything_declared_arrives(tmp_path: Path) -> None:
    w = load_workspace(write(tmp_path, FULL), {})
    assert w.root == tmp_path.resolve()
    assert w.schema.entities["item"].signals["price"] == Signal("price", SignalKind.F32, 0, 0.5, 604_800.0)
    assert w.schema.entities["item"].signals["stock"].default == 1.0
    assert w.schema.entities["item"].signals["vector"] == Signal("vector", SignalKind.EMBEDDING, 16)
    assert w.schema.entities["item"].signals["on"].kind is SignalKind.I64
    assert list(w.schema.entities) == ["item", "user"]
    search = w.profiles["search"]
    assert search.features == (
        Feature("price_log", "log1p(item.price)"),
        Feature("bm25", "column.bm25"),
        Feature("one", "1"),
        Feature("tiny", "0.001"),
    )
    assert search.context["v"] == ContextFeature("v", ContextKind.EMBEDDING, 4)
    assert (search.columns, search.rerank_count, search.model, search.entity) == (("bm25",), 200, "shop", "item")
    assert w.profiles["browse"].features[2] == Feature("one", "2.5")
    assert w.profiles["browse"].base is None
    assert w.models["shop"] == ModelSpec("shop", str(tmp_path.resolve() / "models/shop.txt"), "lightgbm")
    assert w.models["other-1.2"] == ModelSpec("other-1.2", "/abs/m.bin", "linear", ("b", "a"))
    assert w.settings.server.limits == RequestLimits(max_candidates=50)
    assert w.settings.server.listen_address.target == "[::1]:0"
    assert w.data_dir is None
    assert w.settings.tracing.otlp_endpoint == "http://127.0.0.1:4317"
    assert w.place("profiles.search.base") == "rankd.yaml:25"
    assert w.place("profiles.search.base.x[3].y") == "rankd.yaml:25"
    assert w.place("profiles.search.columns[0]") == "rankd.yaml:18"
    assert w.place("nothing.like.it") == "rankd.yaml:1"


KINDS = """
version: 1
schema:
  item:
    brand: category
    v: {type: 'embedding[64]', element: f16}
    heat: {type: decayed_counter, half_life: 7d, default: 0}
    clicks: {type: windowed_counter, window: 7d, from: {events: [click, buy], where: event.position < 9, weight: 2}}
    shown: {type: windowed_counter, window: 7d, bucket: 6h}
    ctr: {type: ratio, of: [clicks, shown], prior: {mean: 0.02, weight: 50}}
    fast: {type: windowed_counter, window: 30s}
  user:
    affinity: {type: map, half_life: 12h, ttl: 30d, from: {events: [click], key: item.brand}}
    recent: list[20]
  query_item: {n: f32}
  user_brand: {n: f32}
entities:
  query_item: {key: [query, item], storage: fetched}
  user_brand: {key: [user, item.brand]}
  item: {storage: replicated}
signals:
  backend: redis
  redis: {url: "rediss://redis.internal:6380/2", cluster: true}
"""


def test_the_kinds_and_composite_entities_arrive(tmp_path: Path) -> None:
    w = load_workspace(write(tmp_path, KINDS), {"RANKD_SIGNALS__REDIS__SHARDS": "64"})
    item, user = (w.schema.entities[name].signals for name in ("item", "user"))
    assert item["v"] == Signal("v", SignalKind.EMBEDDING, 64, element=Element.F16)
    assert item["heat"] == Signal("heat", SignalKind.COUNTER, default=0.0, half_life_s=604_800.0)
    source = EventSource(("click", "buy"), where="event.position < 9", weight="2")
    clicks = Signal("clicks", SignalKind.WINDOW, window_s=604_800.0, bucket_s=21_600.0, source=source)
    assert item["clicks"] == clicks
    assert item["fast"].bucket_s == 1.0
    assert item["ctr"] == Signal("ctr", SignalKind.RATIO, ratio_of=("clicks", "shown"), prior=Prior(0.02, 50.0))
    assert (item["ctr"].is_stored, item["clicks"].is_stored) == (False, True)
    source = EventSource(("click",), key="item.brand")
    assert user["affinity"] == Signal(
        "affinity", SignalKind.MAP, ttl_s=2_592_000.0, half_life_s=43_200.0, source=source
    )
    assert user["recent"] == Signal("recent", SignalKind.LIST, 20)
    entities = w.schema.entities
    assert {name: (e.key, e.is_fetched) for name, e in entities.items()} == {
        "item": ((), False),
        "user": ((), True),
        "query_item": (("query", "item"), True),
        "user_brand": (("user", "item.brand"), True),
    }
    redis = w.settings.signals.redis
    assert (redis.url, redis.cluster, redis.shards) == ("rediss://redis.internal:6380/2", True, 64)


@pytest.mark.parametrize(
    ("window", "bucket_s"),
    [("1h", 120), ("24h", 3600), ("7d", 21_600), ("30d", 86_400), ("365d", 604_800 / 7), ("10s", 1), ("23s", 1)],
)
def test_a_window_has_a_fitting_bucket(window: str, bucket_s: float) -> None:
    assert bucket_ms(window, None) == bucket_s * 1000


def test_the_file_itself_and_the_defaults(tmp_path: Path) -> None:
    write(tmp_path, "\ufeffversion: 1\n")
    w = load_workspace(tmp_path / "rankd.yaml", {})
    assert w.settings.server.limits == RequestLimits()
    assert w.data_dir == tmp_path.resolve() / "data"
    assert (w.profiles, w.models, w.schema.entities) == ({}, {}, {})


def test_environment_beats_the_file_and_options_beat_the_environment(tmp_path: Path) -> None:
    write(tmp_path, FULL)
    environ = {
        "RANKD_SERVER__LISTEN": "127.0.0.1:7",
        "RANKD_SERVER__LIMITS__MAX_CANDIDATES": "500",
        "RANKD_SERVER__REFLECTION": "true",
        "RANKD_SERVER__LOG__LEVEL": "debug",
        "RANKD_SERVER__DATA_DIR": "elsewhere",
        "RANKD_TRACING__OTLP_ENDPOINT": "",
        "RANKD_TRACING__SAMPLE_RATIO": "1e-2",
        "RANKD_DATA": "not: a setting",
        "RANKD_FUZZ_SCALE": "9",
        "PATH": "/bin",
    }
    w = load_workspace(tmp_path, environ, [Override("--listen", ("server", "listen"), "127.0.0.1:8")])
    server, tracing = w.settings.server, w.settings.tracing
    assert (server.listen, server.limits.max_candidates, server.reflection) == ("127.0.0.1:8", 500, True)
    assert (server.log.level, w.data_dir) == ("debug", tmp_path.resolve() / "elsewhere")
    assert (tracing.otlp_endpoint, tracing.sample_ratio) == (None, 0.01)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("RANKD_SERVER__LISEN", "x", 'unknown one; did you mean "RANKD_SERVER__LISTEN"?'),
        ("RANKD_SERVER__LIMITS", "5", "the name of a setting, got an unknown one"),
        ("RANKD_PROFILES__SEARCH__BASE", "1", "the name of a setting, got an unknown one"),
        ("RANKD_SERVER__LISTEN", "nowhere", 'server.listen: expected host:port, [IPv6 address]:port or unix:/path, got "nowhere"'),
        ("RANKD_SERVER__LISTEN", "", "server.listen: expected text, got nothing"),
        ("RANKD_SERVER__LISTEN", "0.0.0.0:1", "server.listen: expected a loopback address"),
        ("RANKD_SERVER__LIMITS__MAX_CANDIDATES", "0", "server.limits.max_candidates: expected at least 1, got 0"),
        ("RANKD_SERVER__LIMITS__MAX_CANDIDATES", "many", 'expected a whole number, got "many"'),
        ("RANKD_SERVER__LIMITS__MAX_CANDIDATES", "9" * 5000, "expected a whole number, got inf"),
        ("RANKD_SERVER__REFLECTION", "yes", 'expected true or false, got "yes"'),
        ("RANKD_SERVER__DRAIN_SECONDS", ".nan", "server.drain_seconds: expected a finite number, got nan"),
        ("RANKD_TRACING__SERVICE_NAME", "[a]", 'expected a single value, got "[a]"'),
        ("RANKD_TRACING__SERVICE_NAME", "\udcff", "expected a single value"),
        ("RANKD_TRACING__SERVICE_NAME", "123", "expected text, got 123; put it in quotes if text is meant"),
    ],
)  # fmt: skip
def test_a_bad_variable_is_named(tmp_path: Path, name: str, value: str, expected: str) -> None:
    (problem,) = problems(write(tmp_path, "version: 1"), {name: value})
    assert problem.startswith(f"{name}: ")
    assert expected in problem


def test_an_override_of_a_section_that_is_no_mapping_is_reported_once(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "version: 1\nserver: 5\n"), {"RANKD_SERVER__LISTEN": "127.0.0.1:1"})
    assert found == ["rankd.yaml:2: server: expected a mapping, got 5"]


def test_every_setting_can_be_set_by_a_variable(tmp_path: Path) -> None:
    w = load_workspace(write(tmp_path, "version: 1"), {})
    environ = {}
    for path in settings_paths():
        value = w.settings
        for part in path:
            value = getattr(value, part)
        environ[variable_name(path)] = "null" if value is None else str(value).lower()
    assert len(environ) > 20
    assert load_workspace(tmp_path, environ).settings == w.settings


def test_settings_are_immutable(tmp_path: Path) -> None:
    w = load_workspace(write(tmp_path, "version: 1"), {})
    with pytest.raises(ValueError, match="frozen"):
        w.settings.server.listen = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        w.root = tmp_path  # type: ignore[misc]


def test_hard_limits_are_the_bounds_of_the_settings(tmp_path: Path) -> None:
    highest = HARD_REQUEST_LIMITS.max_columns
    text = "version: 1\nserver: {limits: {max_columns: %d}}"
    assert load_workspace(write(tmp_path, text % highest), {}).settings.server.limits.max_columns == highest
    (problem,) = problems(write(tmp_path, text % (highest + 1)))
    assert problem == f"rankd.yaml:2: server.limits.max_columns: expected at most {highest}, got {highest + 1}"


def test_the_docs_tell_every_setting_and_its_default() -> None:
    text = (Path(__file__).parents[2] / "docs/workspace.md").read_text(encoding="utf-8")
    for path in settings_paths():
        section, key = path[0], ".".join(path[1:])
        value = Settings()
        for part in path:
            value = getattr(value, part)
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        part = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        assert re.search(rf"^\| `{re.escape(key)}` \| `?{re.escape(shown)}`? \| .+ \|$", part, re.MULTILINE), path


def test_the_example_of_the_docs_loads(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/workspace.md").read_text(encoding="utf-8")
    w = load_workspace(write(tmp_path, text.partition("```yaml\n")[2].partition("```")[0]), {})
    assert w.profiles["search"].model == "shop"
