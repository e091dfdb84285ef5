"""init, check, schema and serve."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from rankd.cli.main import cli
from rankd.errors import ConfigError
from rankd.workspace import Override, Workspace, json_schema, load_workspace


def run(*arguments: str | Path, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="rankd", env=environ)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    code, out, err = run("init", tmp_path / "shop")
    assert code == 0, err
    assert "rankd serve" in out
    return tmp_path / "shop"


def edit(shop: Path, old: str, new: str) -> None:
    text = (shop / "rankd.yaml").read_text(encoding="utf-8")
    assert old in text
    (shop / "rankd.yaml").write_text(text.replace(old, new), encoding="utf-8")


def test_init_writes_data_that_fits_its_schema(shop: Path) -> None:
    workspace = load_workspace(shop, {})
    assert sorted(workspace.profiles) == ["browse", "search"]
    assert workspace.profiles["browse"].features == ()
    ids = {}
    for entity in ("item", "user"):
        lines = (shop / f"{entity}s.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        signals = workspace.schema.entities[entity].signals
        assert all(set(row) - {"id"} <= set(signals) for row in rows)
        ids[entity] = [row["id"] for row in rows]
        assert len(set(ids[entity])) == len(rows)
    assert len(ids["item"]) == 20
    with (shop / "judgments.csv").open(encoding="utf-8", newline="") as file:
        judgments = list(csv.DictReader(file))
    assert {j["id"] for j in judgments} <= set(ids["item"])
    assert {j["grade"] for j in judgments} == {"0", "1", "2", "3"}


def test_init_refuses_a_directory_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "rankd.yaml").write_text("mine")
    code, out, err = run("init", tmp_path)
    assert (code, out) == (2, "")
    assert "is not empty" in err
    assert (tmp_path / "rankd.yaml").read_text() == "mine"
    assert run("init", tmp_path, "--force")[0] == 0
    assert (tmp_path / "rankd.yaml").read_text().startswith("# A small shop")


def test_init_over_a_file_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run("init", tmp_path / "file")[0] == 2


def test_init_then_check(shop: Path) -> None:
    code, out, err = run("check", shop)
    assert (code, err) == (0, "")
    assert "no problems found" in out
    code, out, _ = run("check", shop, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["ok"] is True
    assert found["profiles"]["search"]["features"] == 6
    assert found["profiles"]["browse"]["base"] is True
    assert found["entities"] == {"item": {"signals": 7}, "user": {"signals": 1}}


def check_fails(shop: Path) -> list[dict[str, str]]:
    code, out, _ = run("check", shop, "--json")
    assert code == 1
    found = json.loads(out)
    assert found["ok"] is False
    problems: list[dict[str, str]] = found["problems"]
    return problems


def line_of(shop: Path, start: str) -> str:
    lines = (shop / "rankd.yaml").read_text(encoding="utf-8").splitlines()
    (number,) = (i for i, line in enumerate(lines, 1) if line.strip().startswith(start))
    return f"rankd.yaml:{number}"


def test_check_prints_what_the_loader_finds(shop: Path) -> None:
    edit(shop, "price: f32", "price: f33")
    code, out, err = run("check", shop)
    assert (code, out) == (1, "")
    assert err.splitlines()[0].startswith(line_of(shop, "price:") + ": schema.item.price: expected a signal type")
    assert err.splitlines()[-1] == "1 problem found"
    (problem,) = check_fails(shop)
    assert problem["path"] == "schema.item.price"


def test_check_finds_a_cycle_between_features(shop: Path) -> None:
    edit(shop, "popular: log1p(item.clicks_7d)", "popular: 1 + similar")
    edit(shop, "similar: trigram_similarity(request.query, item.title)", "similar: popular + 1")
    (problem,) = check_fails(shop)
    assert problem["where"] in (line_of(shop, "similar:"), line_of(shop, "popular:"), line_of(shop, "features:"))
    assert (
        "similar -> popular -> similar" in problem["message"] or "popular -> similar -> popular" in problem["message"]
    )


def test_check_finds_faults_of_expressions_and_model_files_together(shop: Path) -> None:
    edit(shop, "base: decay(item.released", "base: decay(item.relesed")
    edit(
        shop,
        "\nserver:",
        "\nmodels:\n  shop: {file: models/shop.txt}\n  other: {file: rankd.yaml, format: lightgbm}\nserver:",
    )
    places = {p["path"]: p["where"] for p in check_fails(shop)}
    assert places == {
        "models.shop.file": line_of(shop, "shop:"),
        "models.other.file": line_of(shop, "other:"),
        "profiles.browse.base": line_of(shop, "base: decay"),
    }


@pytest.mark.parametrize("kind", ["json", "ubj"])
def test_check_reads_an_xgboost_model(shop: Path, kind: str) -> None:
    """The whole way from rankd.yaml; a damaged file is named with the place in it."""
    from support.xgboost_boosters import model_bytes

    names = sorted(load_workspace(shop, {}).profiles["search"].features, key=lambda f: f.name)[:1]
    inputs = ", ".join([names[0].name, *(f"x{i}" for i in range(6))])
    (shop / f"m.{kind}").write_bytes(model_bytes("exact", kind))
    edit(shop, "\nserver:", f"\nmodels:\n  m: {{file: m.{kind}, format: xgboost, features: [{inputs}]}}\nserver:")
    assert run("check", shop)[0] == 0
    (shop / f"m.{kind}").write_bytes(model_bytes("exact", kind)[:-1])
    (problem,) = check_fails(shop)
    assert problem["path"] == "models.m.file"
    assert "expected" in problem["message"]


def test_check_without_a_workspace_says_how_to_start(tmp_path: Path) -> None:
    code, out, err = run("check", tmp_path)
    assert (code, out) == (2, "")
    assert "rankd init" in err


def test_schema_accepts_what_init_writes_and_refuses_unknown_keys(shop: Path) -> None:
    code, out, _ = run("schema")
    assert code == 0
    schema = json.loads(out)
    assert schema == json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    document = yaml.safe_load((shop / "rankd.yaml").read_text(encoding="utf-8"))
    validator.validate(document)
    for change in (
        {"profile": {}},
        {"version": 2},
        {"schema": {"item": {"price": "f33"}}},
        {"schema": {"item": {"price": {"type": "f32", "defualt": 1}}}},
        {"schema": {"context": {}}},
        {"profiles": {"a b": {}}},
        {"profiles": {"s": {"bases": "1"}}},
        {"profiles": {"s": {"features": {"1x": "1"}}}},
        {"server": {"limits": {"max_candidates": 0}}},
        {"server": {"limits": {"max_ids": 1}}},
        {"tracing": {"sample_ratio": 2}},
    ):
        assert not validator.is_valid(document | change), change


def test_schema_goes_to_a_file(tmp_path: Path) -> None:
    assert run("schema", "--output", tmp_path / "s.json") == (0, "", "")
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8")) == json_schema()


class FakeServer(ModuleType):
    """rankd.server.supervisor.service with a run_service that records its workspace."""

    def __init__(self, outcome: int | Exception) -> None:
        super().__init__("rankd.server.supervisor.service")
        self.outcome = outcome
        self.workspaces: list[Workspace] = []

    def run_service(self, workspace: Workspace, overrides: Sequence[Override]) -> int:
        self.workspaces.append(workspace)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def serve(monkeypatch: pytest.MonkeyPatch, outcome: int | Exception, *arguments: Any, **options: Any) -> Any:
    server = FakeServer(outcome)
    monkeypatch.setitem(sys.modules, "rankd.server.supervisor.service", server)
    return server.workspaces, run("serve", *arguments, **options)


def test_serve_overrides_settings(monkeypatch: pytest.MonkeyPatch, shop: Path) -> None:
    environ = {"RANKD_SERVER__LISTEN": "127.0.0.1:5", "RANKD_SERVER__REFLECTION": "true"}
    options = ("--listen", "127.0.0.1:0", "--health-listen", "unix:/tmp/h", "--data-dir", "d")
    (workspace,), (code, _, err) = serve(monkeypatch, 0, shop, *options, environ=environ)
    assert code == 0, err
    server = workspace.settings.server
    assert (server.listen, server.health_listen, server.reflection) == ("127.0.0.1:0", "unix:/tmp/h", True)
    assert workspace.data_dir == Path.cwd() / "d"


def test_serve_in_memory(monkeypatch: pytest.MonkeyPatch, shop: Path) -> None:
    (workspace,), (code, _, _) = serve(monkeypatch, 0, shop, "--in-memory")
    assert (code, workspace.data_dir) == (0, None)
    assert serve(monkeypatch, 0, shop, "--in-memory", "--data-dir", "d")[1][0] == 2


@pytest.mark.parametrize(
    ("outcome", "status", "message"),
    [
        (5, 5, ""),
        (ConfigError("cannot listen on 127.0.0.1:50051: Address already in use", "server.listen"), 4, "already in use"),
        (ConfigError("expected a number", "profiles.search.base"), 1, "profiles.search.base"),
    ],
)
def test_serve_ends_as_the_server_does(
    monkeypatch: pytest.MonkeyPatch, shop: Path, outcome: int | Exception, status: int, message: str
) -> None:
    _, (code, _, err) = serve(monkeypatch, outcome, shop)
    assert code == status
    assert message in err


@pytest.mark.parametrize(
    ("option", "value"), [("--listen", "here"), ("--listen", "0.0.0.0:1"), ("--health-listen", "")]
)
def test_serve_names_the_option_at_fault(monkeypatch: pytest.MonkeyPatch, shop: Path, option: str, value: str) -> None:
    workspaces, (code, _, err) = serve(monkeypatch, 0, shop, option, value)
    assert (workspaces, code) == ([], 2)
    assert f"{option}: server." in err


@pytest.mark.parametrize("option", ["--listen", "--health-listen"])
def test_a_port_in_use_ends_serve_with_its_own_status(shop: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addresses = {"--listen": "127.0.0.1:0", "--health-listen": "127.0.0.1:0"}
        addresses[option] = f"127.0.0.1:{taken.getsockname()[1]}"
        options = [word for pair in addresses.items() for word in pair]
        done = subprocess.run(
            [sys.executable, "-m", "rankd", "serve", shop, "--in-memory", *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 4, done.stderr
    assert f"Error: server.{option[2:].replace('-', '_')}: address {addresses[option]} is in use" in done.stderr
    assert "Traceback" not in done.stderr
