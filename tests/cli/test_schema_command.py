"""`rankd schema diff` and `rankd schema migrate`, of a data directory and of Redis."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from signals.conformance import Clock, get_rows, rows_batch
from support.redis_servers import RedisServer

from rankd.cli.main import cli
from rankd.server.stores import redis_options
from rankd.signals.embedded import open_embedded
from rankd.signals.redis.store import open_redis_store
from rankd.workspace import load_workspace

ITEM = {"price": "f32", "size": "i64", "old": "bool"}


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="rankd")
    return result.exit_code, result.stdout, result.stderr


def declare(path: Path, item: dict[str, str], **more: Any) -> None:
    path.mkdir(exist_ok=True)
    (path / "rankd.yaml").write_text(json.dumps({"version": 1, "schema": {"item": item}, **more}))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A workspace with two rows in its data directory."""
    declare(tmp_path / "shop", ITEM)
    workspace = load_workspace(tmp_path / "shop", {})

    async def write() -> None:
        store = await open_embedded(workspace.schema, workspace.data_dir, 1000, clock=Clock())
        rows = [("a", {"price": 2.0, "size": 1, "old": True}), ("b", {"price": 2.5})]
        await store.write(rows_batch("item", rows, workspace.schema))
        await store.close()

    asyncio.run(write())
    return tmp_path / "shop"


async def rows_of(shop: Path) -> dict[str, dict[str, Any]]:
    workspace = load_workspace(shop, {})
    store = await open_embedded(workspace.schema, workspace.data_dir, 1000, clock=Clock())
    rows = await get_rows(store, "item", ["a", "b"])
    await store.close()
    return rows


def test_nothing_differs(shop: Path) -> None:
    assert run("schema", "diff", shop) == (0, "what is stored is of the declared schema\n", "")
    assert run("schema", "migrate", shop) == (0, "what is stored is of the declared schema\n", "")


def test_diff_and_migrate(shop: Path) -> None:
    declare(shop, {"price": "i64", "size": "string", "new": "set"})
    code, out, err = run("schema", "diff", shop)
    assert (code, err) == (1, "")
    lines = {line.split()[0]: " ".join(line.split()) for line in out.splitlines()}
    assert lines["item.price"] == (
        "item.price f32 i64 2 1 of 2 values cannot be converted exactly; `--accept-loss` makes these missing, "
        "`--drop item.price` drops all"
    )
    assert lines["item.size"] == "item.size i64 string 1 converted"
    assert lines["item.new"] == "item.new set missing until it is written"
    assert lines["item.old"].startswith("item.old bool 1 kept aside, unseen")
    code, _, err = run("schema", "migrate", shop)
    assert (code, "item.price: 1 of 2 values" in err) == (1, True)
    code, out, _ = run("schema", "migrate", shop, "--accept-loss", "--drop", "item.old", "--dry-run", "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["backup"]) == (0, True, None)
    assert {d["signal"]: d["fate"] for d in document["differences"]} == {
        "new": "added", "old": "dropped", "price": "converted", "size": "converted"
    }  # fmt: skip
    code, out, _ = run("schema", "migrate", shop, "--accept-loss", "--drop", "item.old")
    assert code == 0
    assert "the files as they were are in" in out
    assert asyncio.run(rows_of(shop)) == {"a": {"price": 2, "size": "1"}, "b": {}}
    assert run("schema", "diff", shop)[0] == 0


def test_what_is_added_or_removed_needs_no_migration(shop: Path) -> None:
    declare(shop, {"price": "f32", "size": "i64", "new": "set"})
    assert run("schema", "diff", shop)[0] == 0
    code, out, _ = run("schema", "migrate", shop)
    assert (code, out.splitlines()[-1]) == (0, "there was nothing to do")
    code, _, err = run("schema", "migrate", shop, "--drop", "item.price")
    assert (code, "declared as it is stored" in err) == (1, True)


def test_nothing_is_stored(tmp_path: Path) -> None:
    declare(tmp_path, ITEM)
    code, _, err = run("schema", "diff", tmp_path)
    assert (code, "nothing is stored yet in" in err) == (1, True)
    declare(tmp_path, ITEM, server={"data_dir": None})
    code, _, err = run("schema", "migrate", tmp_path)
    assert (code, "in memory only" in err) == (2, True)


def test_the_json_schema_is_printed_as_before(tmp_path: Path) -> None:
    assert run("schema") == run("schema", "print")
    assert run("schema", "print", "-o", tmp_path / "s.json") == (0, "", "")
    assert run("schema", "-o", tmp_path / "t.json", "diff")[0] == 2


def test_signals_in_redis(tmp_path: Path) -> None:
    server = RedisServer()
    shared = {"signals": {"backend": "redis", "redis": {"url": server.url, "socket_timeout_ms": 5_000}}}
    try:
        declare(tmp_path, ITEM, **shared)
        workspace = load_workspace(tmp_path, {})

        async def write() -> None:
            store = await open_redis_store(workspace.schema, redis_options(workspace))
            await store.write(rows_batch("item", [("a", {"price": 2.0, "old": True})], workspace.schema))
            await store.close()

        asyncio.run(write())
        assert run("schema", "diff", tmp_path)[0] == 0
        declare(tmp_path, {"price": "i64", "size": "i64"}, **shared)
        code, out, _ = run("schema", "diff", tmp_path, "--json")
        assert code == 1
        assert {d["signal"]: (d["fate"], d["values"]) for d in json.loads(out)["differences"]} == {
            "old": ("kept", None), "price": ("refused", None)
        }  # fmt: skip
        code, _, err = run("schema", "migrate", tmp_path, "--drop", "item.price")
        assert (code, "item.old would be left" in err) == (1, True)
        code, out, err = run("schema", "migrate", tmp_path, "--drop", "item.price", "--drop", "item.old")
        assert code == 0, err
        assert run("schema", "diff", tmp_path)[1] == "what is stored is of the declared schema\n"
    finally:
        server.close()
    code, _, _ = run("schema", "diff", tmp_path)
    assert code == 3
