"""Bad workspaces: each fault is named with its line, its path, what was expected and what came."""

# ruff: noqa: E501 - tables
from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rankd.errors import WorkspaceError
from rankd.limits import MAX_WORKSPACE_FILE_BYTES
from rankd.workspace import load_workspace

HEAD = "version: 1\nschema: {item: {price: f32}}\n"

# (what is written after HEAD, the problems: from line 3 on)
CASES = [
    ("profile: {}", ['3: profile: expected one of server, tracing, signals, version, schema, entities, models, profiles; got "profile"; did you mean "profiles"?']),
    ("profiles:", ["3: profiles: expected a mapping, got nothing"]),
    ("profiles: [a]", ["3: profiles: expected a mapping, got a list"]),
    ("profiles:\n  search: {}\n  search: {}", ["5: profiles.search: expected each key once, got it again; it is already in line 4"]),
    ("profiles:\n  a b: {}", ['4: profiles.a b: expected a name of letters, digits, _, - and . that starts with a letter or _, at most 64 long, got "a b"']),
    (f"profiles:\n  {'a' * 65}: {{}}", ["4: profiles." + "a" * 65 + ": expected a name of letters, digits, _, - and . that starts with a letter or _, at most 64 long, got \"" + "a" * 65 + '"']),
    ("profiles:\n  s:\n    base: [1]", ["5: profiles.s.base: expected an expression (text or a number), got a list"]),
    ("profiles:\n  s:\n    base: true", ["5: profiles.s.base: expected an expression (text or a number), got true (a boolean)"]),
    ("profiles:\n  s:\n    base: ''", ['5: profiles.s.base: expected text that is not empty, got ""']),
    ("profiles:\n  s:\n    base: .inf", ["5: profiles.s.base: expected an expression (text or a number), got inf"]),
    (f"profiles:\n  s:\n    base: {'1+' * 5000}1", ["5: profiles.s.base: expected at most 10000 characters, got 10001"]),
    ("profiles:\n  s:\n    entity: itm", ['5: profiles.s.entity: expected an entity of the schema, one of item; got "itm"; did you mean "item"?']),
    ("profiles:\n  s:\n    model: m", ['5: profiles.s.model: expected a model of the workspace, one of (none declared); got "m"']),
    ("profiles:\n  s:\n    rerank: 5", ["5: profiles.s.rerank: expected a model beside rerank, got none"]),
    ("models: {m: {file: a.txt}}\nprofiles:\n  s:\n    model: m\n    rerank: 0", ["7: profiles.s.rerank: expected at least 1, got 0"]),
    ("models: {m: {file: a.txt}}\nprofiles:\n  s:\n    model: m\n    rerank: '5'", ['7: profiles.s.rerank: expected a whole number, got "5"']),
    ("profiles:\n  s:\n    columns: [a, b, a]", ['5: profiles.s.columns: expected distinct names, got "a" twice']),
    ("profiles:\n  s:\n    columns:\n    - a\n    - 1x", ['7: profiles.s.columns[1]: expected a name of letters, digits and _ that does not start with a digit, at most 64 long, got "1x"']),
    ("profiles:\n  s:\n    columns: bm25", ['5: profiles.s.columns: expected a list, got "bm25"']),
    ("profiles:\n  s:\n    context: {d: catgory}", ['5: profiles.s.context.d: expected a context type, one of bool, category, embedding[n], number, set, text, timestamp; got "catgory"; did you mean "category"?']),
    ("profiles:\n  s:\n    context: {d: 'embedding[0]'}", ["5: profiles.s.context.d: expected an embedding of 1 to 4096 numbers, got 0"]),
    ("profiles:\n  s:\n    features: {is: 1}", ['5: profiles.s.features.is: expected a name that expressions can use, got "is", a word of their syntax']),
    ("profiles:\n  s:\n    features:\n      ok: 1\n      f: {a: 1}", ["7: profiles.s.features.f: expected an expression (text or a number), got a mapping"]),
    ("models:\n  m: a.txt", ['4: models.m: expected a mapping, got "a.txt"']),
    ("models:\n  m: {}", ['4: models.m: expected the key "file", got none']),
    ("models:\n  m: {file: a.bin}", ['4: models.m.file: expected format, one of catboost, compiled, lightgbm, linear, xgboost, as the extension of "a.bin" does not tell']),
    ("models:\n  m: {file: a.txt, format: onnx}", ["4: models.m.format: expected 'catboost', 'compiled', 'lightgbm', 'linear' or 'xgboost', got \"onnx\""]),
    ('models:\n  m: {file: "a\\0.txt"}', ['4: models.m.file: expected a path, got "a\\x00.txt"']),
    ("models:\n  m: {file: a.txt, features: []}", ["4: models.m.features: expected at least 1 entries, got 0"]),
    ("server:\n  listen: 50051", ["4: server.listen: expected text, got 50051; put it in quotes if text is meant"]),
    ("server:\n  listen: '127.0.0.1:70000'", ['4: server.listen: expected host:port, [IPv6 address]:port or unix:/path, got "127.0.0.1:70000"']),
    ("server:\n  listen: '[::g]:1'", ['4: server.listen: expected host:port, [IPv6 address]:port or unix:/path, got "[::g]:1"']),
    ("server:\n  listen: '::1:1'", ['4: server.listen: expected host:port, [IPv6 address]:port or unix:/path, got "::1:1"']),
    ("server:\n  health_listen: 127.0.0.1:50051", ['4: server.health_listen: expected an address other than that of server.listen, got "127.0.0.1:50051" for both']),
    ("server:\n  allow_insecure: yes", ['4: server.allow_insecure: expected true or false, got "yes"']),
    ("server:\n  event_loop: uvlop", ["4: server.event_loop: expected 'auto', 'asyncio' or 'uvloop', got \"uvlop\""]),
    ("server:\n  limits: {max_ids: 3}", ["4: server.limits.max_ids: expected one of max_candidates, max_columns, max_id_bytes, max_message_bytes, max_batch_lists, max_batch_candidates, max_write_rows, max_rows_per_entity, max_bytes_per_entity, max_read_bytes; got \"max_ids\"; did you mean \"max_id_bytes\"?"]),
    ("server:\n  drain_seconds: -1", ["4: server.drain_seconds: expected at least 0.0, got -1"]),
    ("server:\n  drain_seconds: .nan", ["4: server.drain_seconds: expected a finite number, got nan"]),
    ("server:\n  default_deadline_ms: 0", ["4: server.default_deadline_ms: expected more than 0.0, got 0"]),
    ("server:\n  data_dir: ''", ['4: server.data_dir: expected a path, got ""']),
    ("tracing:\n  otlp_endpoint: 127.0.0.1:4317", ['4: tracing.otlp_endpoint: expected a URL such as http://127.0.0.1:4317, got "127.0.0.1:4317"']),
    ("tracing:\n  otlp_endpoint: http://[::1", ['4: tracing.otlp_endpoint: expected a URL such as http://127.0.0.1:4317, got "http://[::1"']),
    ("tracing: {sample_ratio: 2}", ["3: tracing.sample_ratio: expected at most 1.0, got 2"]),
    ("tracing: {service_name: 2024-01-01}\nserver: !!python/object:os.system {}", ['4: server: expected no YAML tag, got "tag:yaml.org,2002:python/object:os.system"']),
    ("tracing: {service_name: !!bool maybe}", ['3: tracing.service_name: expected a value of the tag !!bool, got "maybe"', '3: tracing.service_name: expected text that is not empty, got ""']),
    ("? [a]\n: 1", ["3: expected text as a key, got a list or mapping"]),
    ("profiles: {a: {<<: 5}}", ["3: profiles.a: expected a mapping or a list of mappings after <<, got a single value"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[c[0][:40] for c in CASES])
def test_a_fault_is_named(tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "rankd.yaml").write_text(HEAD + text)
    with pytest.raises(WorkspaceError) as caught:
        load_workspace(tmp_path, {})
    # A key that is no text leaves a "?" behind, which is no key of the document either.
    found = [str(p) for p in caught.value.problems if p.path != "?"]
    assert found == [f"rankd.yaml:{e}" for e in expected]


SIGNALS = [
    ("strng", "", 'expected a signal type, one of bool, category, decayed_counter, embedding[n], f32, i64, list[n], map, ratio, set, string, timestamp, windowed_counter; got "strng"; did you mean "string"?'),
    ("embedding", "", 'expected a signal type, one of bool, category, decayed_counter, embedding[n], f32, i64, list[n], map, ratio, set, string, timestamp, windowed_counter; got "embedding"; did you mean "embedding[n]"?'),
    ("embedding[4097]", "", "expected an embedding of 1 to 4096 numbers, got 4097"),
    ("{type: string, default: 1}", ".default", "expected no default for a signal of type string, got 1"),
    ("{type: f32, default: cheap}", ".default", 'expected a number, got "cheap"'),
    ("{type: f32, default: true}", ".default", "expected a number, got true (a boolean)"),
    ("{type: f32, default: 1e39}", ".default", "expected a number within the range of f32, got 1e+39"),
    ("{type: f32, default: .nan}", ".default", "expected a number within the range of f32, got nan"),
    ("{type: i64, default: 1.5}", ".default", "expected a whole number of at most 2**53, got 1.5"),
    ("{type: bool, default: 1}", ".default", "expected true or false, got 1"),
    ("{type: timestamp, default: 2024-01-01}", ".default", 'expected a number, got "2024-01-01"'),
    ("{type: f32, ttl: 60}", ".ttl", "expected text, got 60; put it in quotes if text is meant"),
    ("{type: f32, ttl: 0d}", ".ttl", 'expected a duration such as 30s, 15m, 12h or 7d, got "0d"'),
    ("{type: f32, ttl: 1y}", ".ttl", 'expected a duration such as 30s, 15m, 12h or 7d, got "1y"'),
    ("{typ: f32, type: f32}", ".typ", 'expected one of type, default, ttl, element, half_life, window, bucket, of, prior, from; got "typ"; did you mean "type"?'),
    ("'list[4097]'", "", "expected a list of 1 to 4096 members, got 4097"),
    ("'list[0]'", "", "expected a list of 1 to 4096 members, got 0"),
    ("decayed_counter", "", 'expected the key "half_life" for a signal of type decayed_counter, got none'),
    ("windowed_counter", "", 'expected the key "window" for a signal of type windowed_counter, got none'),
    ("{type: ratio}", "", 'expected the key "of" for a signal of type ratio, got none'),
    ("{type: decayed_counter, half_life: 0s}", ".half_life", 'expected a duration such as 30s, 15m, 12h or 7d, got "0s"'),
    ("{type: f32, half_life: 7d}", ".half_life", 'expected no half_life for a signal of type f32, got "7d"'),
    ("{type: set, element: f16}", ".element", 'expected no element for a signal of type set, got "f16"'),
    ("{type: 'embedding[2]', element: f64}", ".element", "expected 'f32', 'f16' or 'i8', got \"f64\""),
    ("{type: windowed_counter, window: 7d, bucket: 5h}", ".bucket", 'expected a bucket of which the window 7d is a whole number, at most 4096, got "5h"'),
    ("{type: windowed_counter, window: 7d, bucket: 1m}", ".bucket", 'expected a bucket of which the window 7d is a whole number, at most 4096, got "1m"'),
    ("{type: windowed_counter, window: 1m, bucket: 2m}", ".bucket", 'expected a bucket of which the window 1m is a whole number, at most 4096, got "2m"'),
    ("{type: windowed_counter, window: 1m, bucket: 500ms}", ".bucket", 'expected a bucket of at least 1s, got "500ms"'),
    ("{type: windowed_counter, window: 1500ms}", "", "expected a bucket for a window of 1500ms, of which none fits by itself; got none"),
    ("{type: ratio, of: [a]}", ".of", "expected at least 2 entries, got 1"),
    ("{type: ratio, of: [a, b], ttl: 1d}", ".ttl", 'expected no ttl for a signal of type ratio, got "1d"'),
    ("{type: f32, prior: {mean: 1, weight: 1}}", ".prior", "expected no prior for a signal of type f32, got mean=1.0 weight=1.0"),
    ("{type: map, from: {events: []}}", ".from.events", "expected at least 1 entries, got 0"),
    ("{type: map, from: {events: [a]}}", ".from", 'expected the key "key" for a signal of type map, got none'),
    ("{type: f32, from: {events: [a]}}", ".from", 'expected the key "value" for a signal of type f32, got none'),
    ("{type: f32, from: {events: [a], value: 1, weight: 2}}", ".from", 'expected no weight for a signal of type f32, got "2"'),
    ("{type: set, from: {events: [a]}}", ".from", "expected no events for a signal of type set, got some"),
    ("{type: 'list[3]', from: {events: [a, a]}}", ".from.events", 'expected distinct names, got "a" twice'),
    ("{type: 'list[3]', from: {event: [a], events: [a]}}", ".from.event", 'expected one of events, id, where, weight, key, value; got "event"; did you mean "events"?'),
    ("", "", "expected a mapping, got nothing"),
    ("5", "", "expected a mapping, got 5"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "expected"), SIGNALS)
def test_a_faulty_signal_is_named(tmp_path: Path, text: str, path: str, expected: str) -> None:
    (tmp_path / "rankd.yaml").write_text(f"version: 1\nschema:\n  item:\n    price: {text}\n")
    with pytest.raises(WorkspaceError) as caught:
        load_workspace(tmp_path, {})
    assert [str(p) for p in caught.value.problems] == [f"rankd.yaml:4: schema.item.price{path}: {expected}"]


COUNTERS = """version: 1
schema:
  item: {a: {type: windowed_counter, window: 7d}, b: {type: windowed_counter, window: 1d}, c: f32, d: category, RATIO}
  user: {u: f32}
  shop: {s: category}
  pair: {p: f32}
"""

TOGETHER = [
    ("r: {type: ratio, of: [a, b]}", "", ["3: schema.item.r.of: expected counters of one window and bucket, got 604800 s in buckets of 21600 s and 86400 s in buckets of 3600 s"]),
    ("r: {type: ratio, of: [a, c]}", "", ['3: schema.item.r.of[1]: expected a windowed_counter of item, one of a, b; got "c"']),
    ("r: {type: ratio, of: [x, a]}", "", ['3: schema.item.r.of[0]: expected a windowed_counter of item, one of a, b; got "x"']),
    ("r: f32", "entities: {pear: {key: [user, item]}}", ['7: entities.pear: expected an entity of the schema, one of item, pair, shop, user; got "pear"; did you mean "pair"?']),
    ("r: f32", "entities: {pair: {key: [user]}}", ["7: entities.pair.key: expected at least 2 entries, got 1"]),
    ("r: f32", "entities: {pair: {key: [user, user]}}", ['7: entities.pair.key: expected distinct names, got "user" twice']),
    ("r: f32", "entities: {pair: {key: [item, user]}}", ['7: entities.pair.key[1]: expected user before what is no person, got it behind "item"']),
    ("r: f32", "entities: {pair: {key: [user, brand]}}", ['7: entities.pair.key[1]: expected user, visitor, session, query, an entity without a key, or a category of one such as item.brand, one of item, query, session, shop, user, visitor; got "brand"']),
    ("r: f32", "entities: {pair: {key: [user, item.c]}}", ['7: entities.pair.key[1]: expected a category of item, one of d; got "item.c"'.replace('"item.c"', '"c"')]),
    ("r: f32", "entities: {pair: {key: [item, shop]}}", ["7: entities.pair.key[1]: expected parts of one kind of candidates, got item and shop"]),
    ("r: f32", "entities: {item: {key: [user, shop]}}", ["7: entities.item.key: expected no key for item, whose ids are its own; got a list"]),
    ("r: f32", "entities: {pair: {key: [user, item]}}\nprofiles: {p: {entity: pair}}", ['8: profiles.p.entity: expected an entity without a key, got "pair"']),
    ("r: f32", "entities: {user: {storage: local}}", ["7: entities.user.storage: expected 'replicated' or 'fetched', got \"local\""]),
]  # fmt: skip


@pytest.mark.parametrize(("ratio", "text", "expected"), TOGETHER)
def test_what_does_not_fit_together_is_named(tmp_path: Path, ratio: str, text: str, expected: list[str]) -> None:
    (tmp_path / "rankd.yaml").write_text(COUNTERS.replace("RATIO", ratio) + text)
    with pytest.raises(WorkspaceError) as caught:
        load_workspace(tmp_path, {})
    assert [str(p) for p in caught.value.problems] == [f"rankd.yaml:{e}" for e in expected]


@pytest.mark.parametrize(
    "url",
    ["redis://h:0", "http://h:1", "redis://", "redis://h/db", "unix:relative", "redis://h:6379?a=b", "redis://u:secret@h:1"],
)  # fmt: skip
def test_a_bad_redis_url_is_refused_and_no_password_shown(tmp_path: Path, url: str) -> None:
    (tmp_path / "rankd.yaml").write_text(f"version: 1\nsignals: {{redis: {{url: '{url}'}}}}\n")
    with pytest.raises(
        WorkspaceError, match=r"^rankd.yaml:2: signals.redis.url: expected a URL such as redis:"
    ) as caught:
        load_workspace(tmp_path, {})
    assert "secret" not in str(caught.value)


def test_reserved_entities_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rankd.yaml").write_text("version: 1\nschema: {context: {}}\n")
    with pytest.raises(
        WorkspaceError, match=r'^rankd.yaml:2: schema.context: expected a name other than candidate, .*"'
    ):
        load_workspace(tmp_path, {})


def test_all_problems_come_together_in_file_order(tmp_path: Path) -> None:
    (tmp_path / "rankd.yaml").write_text(
        "version: 2\n"
        "schema: {item: {price: f33}}\n"
        "models: {m: {file: x}}\n"
        "profiles:\n"
        "  a: {model: n, entity: user}\n"
        "  a: {}\n"
        "server: {listen: here}\n"
    )
    with pytest.raises(WorkspaceError) as caught:
        load_workspace(tmp_path, {"RANKD_X__Y": "1"})
    wheres = [p.where for p in caught.value.problems]
    assert wheres == [*[f"rankd.yaml:{n}" for n in (1, 2, 3, 5, 5, 6, 7)], "RANKD_X__Y"]


WHOLE = [
    (b"", "rankd.yaml: expected a workspace, got an empty file"),
    (b"# nothing\n", "rankd.yaml: expected a workspace, got an empty file"),
    (b"hello", 'rankd.yaml:1: expected a mapping, got "hello"'),
    (b"version: 1\nversion: }", "rankd.yaml:2: expected YAML, got something else: "),
    (b"version: 1\n---\nversion: 1\n", "rankd.yaml:2: expected YAML, got something else: expected a single document"),
    (b"version: 1\n\tserver: 1", "rankd.yaml:2: expected YAML, got something else: "),
    (b"schema: {item: {v: embedding[3]}}", "between braces, write 'embedding[n]' in quotes"),
    (b"version: *a", "rankd.yaml:1: expected YAML, got something else: found undefined alias"),
    (b"version: 1\nserver: \xff\n", "rankd.yaml:2: expected UTF-8 text, got other bytes"),
    (b"version: 1\x00", "rankd.yaml: expected YAML, got something else: "),
    (b"server: {}", 'rankd.yaml:1: expected the key "version", got none'),
    (b"version: true", "rankd.yaml:1: version: expected 1, got true (a boolean)"),
    (b"a: &a\n  b: *a\n", "rankd.yaml:1: expected a plain document, got an alias that contains itself"),
    (b"a: &a\n  <<: *a\n", "rankd.yaml:1: expected a plain document, got a merge (<<) of something that contains it"),
    (b"a: " + b"[" * 33, "rankd.yaml:1: expected at most 32 levels of nesting, got more"),
    (b"a: [" + b"1," * 400_000 + b"]", "rankd.yaml:1: expected at most 400000 values and keys, got more"),
    (b"# " + b"x" * MAX_WORKSPACE_FILE_BYTES, f"expected at most {MAX_WORKSPACE_FILE_BYTES} bytes, got more"),
]


@pytest.mark.parametrize(("data", "expected"), WHOLE, ids=[w[1][:60] for w in WHOLE])
def test_a_document_that_does_not_read(tmp_path: Path, data: bytes, expected: str) -> None:
    (tmp_path / "rankd.yaml").write_bytes(data)
    with pytest.raises(WorkspaceError) as caught:
        load_workspace(tmp_path, {})
    assert any(expected in str(p) for p in caught.value.problems), str(caught.value)


@pytest.mark.parametrize("template", ["[{0}]", "{{{1}}}"], ids=["sequences", "merges"])
def test_an_alias_bomb_is_refused(tmp_path: Path, template: str) -> None:
    lines = ["a0: &a0 {k: 1}"]
    for i in range(1, 12):
        aliases = ", ".join([f"*a{i - 1}"] * 9)
        lines.append(f"a{i}: &a{i} " + template.format(aliases, f"<<: [{aliases}]"))
    (tmp_path / "rankd.yaml").write_text("\n".join(lines))
    with pytest.raises(WorkspaceError, match="aliases count as often as they are used"):
        load_workspace(tmp_path, {})


def test_a_missing_file_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="expected a workspace file, got none; `rankd init DIR`"):
        load_workspace(tmp_path, {})


def test_a_flood_of_problems_is_kept_whole_and_shown_in_part(tmp_path: Path) -> None:
    (tmp_path / "rankd.yaml").write_text("version: 1\n" + "".join(f"k{i}: 1\n" for i in range(80)))
    with pytest.raises(WorkspaceError) as caught:
        load_workspace(tmp_path, {})
    assert len(caught.value.problems) == 80
    assert str(caught.value).endswith("… and 30 more problems")


SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))

KEYS = st.sampled_from(["version", "schema", "item", "profiles", "s", "base", "features", "server", "limits", "<<", "type", "models", "file", "listen", "tracing", "ttl", "default", "columns"])  # fmt: skip
SCALARS = st.one_of(
    st.sampled_from(["1", "f32", "*a", "&a x", "null", "true", ".inf", "0x1g", "!!int a", "!x y", "''", '"\\uD800"', "7d", "embedding[3]", "2001-01-01", "-.inf", "0o8", "1e400"]),
    st.text(max_size=8),
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
        st.lists(st.tuples(KEYS, inner), max_size=4).map(
            lambda pairs: "&a {" + ", ".join(f"{k}: {v}" for k, v in pairs) + "}"
        ),
    ),
    max_leaves=12,
)


@settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=300 * SCALE,
)
@given(text=st.one_of(st.lists(st.tuples(KEYS, TREES), max_size=6).map(lambda p: "".join(f"{k}: {v}\n" for k, v in p)), st.text(), st.binary()))  # fmt: skip
def test_any_text_gives_a_workspace_or_a_workspace_error(tmp_path: Path, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    (tmp_path / "rankd.yaml").write_bytes(data)
    try:
        load_workspace(tmp_path, {})
    except WorkspaceError as error:
        assert all(p.where and p.message for p in error.problems)
