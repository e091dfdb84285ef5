"""`rankd snapshot create` beside a server that is being written to, and a server that starts from the copy."""

from __future__ import annotations

import threading
from pathlib import Path

from click.testing import CliRunner
from support.serving import ServerProcess

from rankd.cli.main import cli
from rankd.client import Client

WORKSPACE = """
version: 1
schema:
  item: {price: f32, title: string, heat: {type: decayed_counter, half_life: 1d}}
profiles:
  cheap: {features: {price: item.price}, base: -price}
server:
  listen: 127.0.0.1:0
  health_listen: 127.0.0.1:0
  data_dir: data
  drain_seconds: 0
"""


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="rankd")
    assert done.exit_code == 0, done.stderr
    return done.stdout


def workspace(directory: Path) -> Path:
    directory.mkdir()
    (directory / "rankd.yaml").write_text(WORKSPACE)
    return directory


def test_a_copy_taken_while_it_is_written_has_what_was_acknowledged(tmp_path: Path) -> None:
    shop, other, copy = workspace(tmp_path / "shop"), workspace(tmp_path / "other"), tmp_path / "shop.rksnap"
    acknowledged: list[int] = []
    is_done = threading.Event()

    def write(address: str) -> None:
        with Client(address) as client:
            while not is_done.is_set():
                n = len(acknowledged)
                client.write_signals("item", [f"i{n}", "last"], {"price": [n, n], "title": [f"title {n}"] * 2})
                acknowledged.append(n)

    with ServerProcess(shop) as server:
        writer = threading.Thread(target=write, args=(server.wait_ready().address,))
        writer.start()
        while len(acknowledged) < 50:
            assert writer.is_alive()
        before = len(acknowledged)
        run("snapshot", "create", shop, "-o", copy)
        after = len(acknowledged)
        is_done.set()
        writer.join()
    assert run("snapshot", "verify", copy).splitlines()[-1] == "all records are whole"
    run("snapshot", "restore", other, "--from", copy)
    with ServerProcess(other) as server, Client(server.wait_ready().address) as client:
        rows = {id_: values for page in client.scan("item") for id_, values in page.rows()}
        last = int(rows.pop("last")["price"])
        assert before - 1 <= last <= after  # the write that was on its way may be there, too
        assert rows.keys() == {f"i{n}" for n in range(last + 1)}
        for id_, values in rows.items():
            assert values == {"price": float(id_[1:]), "title": f"title {id_[1:]}", "heat": None}
        assert [item.id for item in client.rank("cheap", ["i3", "i1", "i2"])] == ["i1", "i2", "i3"]
