"""`rankd snapshot`: copies, checks and repairs by command."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from signals.conformance import Clock, get_rows, rows_batch

from rankd.cli.main import cli
from rankd.signals.embedded import open_embedded
from rankd.signals.manifest import NAME
from rankd.workspace import load_workspace


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="rankd")
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A workspace with a row in its data directory."""
    assert run("init", tmp_path / "shop")[0] == 0
    asyncio.run(write_price(tmp_path / "shop", 2.5))
    return tmp_path / "shop"


async def write_price(shop: Path, price: float) -> None:
    workspace = load_workspace(shop, {})
    store = await open_embedded(workspace.schema, workspace.data_dir, 1000, clock=Clock())
    await store.write(rows_batch("item", [("a", {"price": price})], workspace.schema))
    await store.close()


async def price(shop: Path) -> float:
    workspace = load_workspace(shop, {})
    store = await open_embedded(workspace.schema, workspace.data_dir, 1000, clock=Clock())
    rows = await get_rows(store, "item", ["a"])
    await store.close()
    return float(rows["a"]["price"])


def test_create_verify_restore(shop: Path, tmp_path: Path) -> None:
    copy = tmp_path / "shop.rksnap"
    code, out, err = run("snapshot", "create", shop, "-o", copy)
    assert (code, err) == (0, "")
    assert out == f"{copy}: {copy.stat().st_size:,} bytes, rows written: 1 of item\n"
    assert run("snapshot", "create", shop, "-o", copy)[0] == 2
    code, out, _ = run("snapshot", "create", shop / "data", "-o", copy, "--force", "--json")
    assert json.loads(out) == {"file": str(copy), "bytes": copy.stat().st_size, "rows": {"item": 1}}
    for path in (copy, shop, shop / "data"):
        code, out, err = run("snapshot", "verify", path)
        assert (code, out.splitlines()[-1], err) == (0, "all records are whole", "")
    asyncio.run(write_price(shop, 7.0))
    code, _, err = run("snapshot", "restore", shop, "--from", copy)
    assert code == 1
    assert "has a state already" in err
    code, out, _ = run("snapshot", "restore", shop, "--from", copy, "--replace")
    assert code == 0
    assert "nothing is lost\nwhat was there is in " in out
    assert asyncio.run(price(shop)) == 2.5


def test_damage_is_named_and_the_rest_kept(shop: Path) -> None:
    asyncio.run(write_price(shop, 7.0))
    [log] = (shop / "data").glob("log-*")
    content = log.read_bytes()
    log.write_bytes(content[:-10] + b"\0" + content[-9:])
    code, out, _ = run("snapshot", "verify", shop, "--json")
    document = json.loads(out)
    assert (code, document["ok"]) == (1, False)
    [damage] = document["damage"]
    assert damage["file"] == str(log)
    assert 0 < damage["offset"] < len(content)
    code, _, err = run("snapshot", "verify", shop)
    assert f"damaged: {log}: at byte {damage['offset']} is a record that does not fit its checksum" in err
    assert run("snapshot", "create", shop, "-o", shop / "copy")[0] == 1
    assert not (shop / "copy").exists()
    code, _, err = run("snapshot", "restore", shop, "--accept-loss")
    assert (code, err.splitlines()) == (0, [f"lost: {log}: at byte {damage['offset']} {damage['description']}"])
    assert asyncio.run(price(shop)) == 2.5


def test_what_restore_wants(shop: Path, tmp_path: Path) -> None:
    for arguments in ((), ("--replace",), ("--replace", "--accept-loss")):
        code, _, err = run("snapshot", "restore", shop, *arguments)
        assert code == 2
        assert "--from PATH, or --accept-loss" in err
    code, _, err = run("snapshot", "restore", tmp_path / "new", "--accept-loss")
    assert (code, "neither logs nor a snapshot" in err) == (1, True)
    (tmp_path / "text").write_text("not a snapshot")
    code, _, err = run("snapshot", "verify", tmp_path / "text")
    assert code == 1
    assert "text" in err


def test_a_manifest_that_is_damaged_names_the_command_that_helps(shop: Path) -> None:
    (shop / "data" / NAME).write_text("x")
    code, _, err = run("snapshot", "verify", shop)
    assert code == 1
    assert f"`rankd snapshot restore {shop / 'data'} --accept-loss`" in err
    code, out, _ = run("snapshot", "restore", shop / "data", "--accept-loss", "--json")
    assert code == 0
    assert [d["file"] for d in json.loads(out)["damage"]] == [str(shop / "data" / NAME)]
    assert asyncio.run(price(shop)) == 2.5


def test_a_workspace_without_files(shop: Path) -> None:
    with (shop / "rankd.yaml").open("a") as file:
        file.write("signals:\n  backend: redis\n")
    code, _, err = run("snapshot", "create", shop, "-o", shop / "copy")
    assert (code, "keeps signals in Redis" in err) == (2, True), err
    (shop / "rankd.yaml").write_text("version: 1\nschema: {item: {price: f32}}\nserver: {data_dir: null}\n")
    code, _, err = run("snapshot", "create", shop, "-o", shop / "copy")
    assert (code, "in memory only" in err) == (2, True), err
