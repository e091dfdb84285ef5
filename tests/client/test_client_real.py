"""The client and `rankd load`, `rank`, `get` against real servers."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support.serving import ServerProcess

from rankd.cli.main import cli
from rankd.client import KEEP, Client, InvalidRequestError, NotFoundError, PreconditionError
from rankd.errors import Reason

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
profiles:
  cheap:
    columns: [bm25]
    features:
      price: item.price
      match: column.bm25
    base: 0 - item.price
server:
  listen: 127.0.0.1:0
  health_listen: 127.0.0.1:0
  data_dir: null
  drain_seconds: 1
"""

VALUES = {
    "price": [2.5, 1.25, 3.0],
    "stock": [2**40, None, -1],
    "released": [np.datetime64(1234, "ms"), None, np.datetime64(-5, "ms")],
    "fresh": [True, False, None],
    "brand": ["Fjell", None, ""],
    "title": ["Ünï\0", "b", None],
    "vector": [[1, 2], None, [3, 4]],
    "tags": [{"x", "y"}, set(), None],
    "weights": [{"k": 0.5}, {}, None],
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("workspace")
    (directory / "rankd.yaml").write_text(WORKSPACE)
    return directory


@pytest.fixture(scope="module")
def server(workspace):
    with ServerProcess(workspace) as process:
        yield process.wait_ready()


@pytest.fixture
def client(server):
    with Client(server.address, timeout_s=20) as made:
        yield made


def plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


def test_signals_of_every_type_come_back_as_written(client):
    assert client.write_signals("item", ["a", "b", "c"], VALUES).written_count == 3
    stored = client.get_signals("item", ["c", "a", "nope", "b"])
    assert stored.ids == ["c", "a", "b"] and stored.missing_ids == ["nope"]
    for name, written in VALUES.items():
        assert list(map(plain, stored.columns[name])) == [written[2], written[0], written[1]], name
    client.write_signals("item", ["a", "b"], {"price": [9, KEEP], "stock": [None, KEEP]})
    again = dict(client.get_signals("item", ["a", "b"], ["price", "stock"]).rows())
    assert again == {"a": {"price": 9.0, "stock": None}, "b": {"price": 1.25, "stock": None}}
    assert client.delete_signals("item", ["a", "zzz"]) == 1


def test_rows_the_server_rejects_are_named(client):
    result = client.write_signals("item", ["ok", "no"], {"price": [1, float("inf")]})
    (rejected,) = result.rejected
    assert result.written_count == 1 and rejected.row == 1 and "finite" in rejected.description


def test_rank_and_its_pages(client):
    ids = [f"p{n}" for n in range(30)]
    client.write_signals("item", ids, {"price": np.arange(30)})
    sent = [*reversed(ids), "unknown"]
    options = {"columns": {"bm25": range(31)}, "view": "features"}
    ranked = client.rank("cheap", sent, **options, timings=True)
    assert ranked.ids[:30] == ids and ranked.missing_ids == ["unknown"]
    assert ranked.scores[:30].tolist() == [-float(n) for n in range(30)]
    assert ranked.features["match"][:2].tolist() == [29, 28] and np.isnan(ranked.features["price"][30])
    ages = ranked.signal_ages["item.price"]
    assert np.isnan(ages[30]) and (abs(ages[:30]) < 600).all() and ranked.degradation is None
    assert next(iter(ranked.timings)) == "retrieve"
    pages = list(client.pages("cheap", sent, **options, page_size=7))
    assert [i for page in pages for i in page.ids] == ranked.ids and len(pages) == 5
    batch = client.batch_rank("cheap", [["p2", "p1"], ["p1", "p1"]])
    assert batch[0].ids == ["p1", "p2"] and isinstance(batch[1], InvalidRequestError)
    assert batch[1].reason is Reason.DUPLICATE_ID and batch[1].violations[0].field.endswith("ids[1]")


def test_faults_have_their_reasons(client):
    with pytest.raises(NotFoundError) as unknown:
        client.rank("chaep", ["a"])
    assert unknown.value.reason is Reason.UNKNOWN_PROFILE and unknown.value.request_id
    with pytest.raises(PreconditionError) as no_model:
        client.score("cheap", ["a"], request_id="mine")
    assert no_model.value.reason is Reason.NO_MODEL and no_model.value.request_id == "mine"
    with pytest.raises(InvalidRequestError) as length:
        client.rank("cheap", ["a", "b"], columns={"bm25": [1]})
    assert length.value.reason is Reason.LENGTH_MISMATCH


def test_health(client):
    assert client.health() is True


def test_the_commands(server, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "x1", "price": 3}\n{"id": "x2", "price": "?"}\n{"id": "x3", "price": 1}\n')
    runner = CliRunner(env={"RANKD_ADDRESS": server.address})
    loaded = runner.invoke(cli, ["load", str(rows)])
    assert loaded.exit_code == 1 and f"{rows}:2: price" in loaded.stderr and "2 rows written" in loaded.stdout
    ranked = runner.invoke(cli, ["rank", "--profile", "cheap", "--ids", "x1,x2,x3", "--view", "features"])
    assert [line.split()[1] for line in ranked.stdout.splitlines()[2:5]] == ["x3", "x1", "x2"]
    assert "x2 (unknown)" in ranked.stdout and "age of item.price" in ranked.stdout
    shown = runner.invoke(cli, ["get", "x1", "--signals", "price"]).stdout.splitlines()
    assert ["price", "3.0"] in [line.split()[:2] for line in shown]


def test_a_message_too_large_for_the_server_is_halved(workspace, tmp_path):
    with ServerProcess(workspace, RANKD_SERVER__LIMITS__MAX_MESSAGE_BYTES="65536") as process:
        process.wait_ready()
        rows = tmp_path / "rows.csv"
        rows.write_text("id,title\n" + "".join(f"t{n},{'x' * 1000}\n" for n in range(200)))
        result = CliRunner().invoke(cli, ["load", str(rows), "--address", process.address])
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith("200 rows written, 0 rejected")


@pytest.mark.slow
def test_a_draining_server_costs_no_call(workspace):
    """SIGTERM to one of two under load: health takes it out of the rotation, then it finishes what it has."""
    with ServerProcess(workspace) as one, ServerProcess(workspace) as two:
        targets = ",".join(process.wait_ready().address for process in (one, two))
        errors: list[Exception] = []
        calls = [0] * 4
        stop = threading.Event()
        with Client(f"ipv4:{targets}", timeout_s=10) as client:

            def work(worker: int) -> None:
                while not stop.is_set():
                    try:
                        client.rank("cheap", ["a", "b"])
                        calls[worker] += 1
                    except Exception as error:
                        errors.append(error)

            threads = [threading.Thread(target=work, args=(n,)) for n in range(len(calls))]
            for thread in threads:
                thread.start()
            time.sleep(0.5)
            status = one.stop()
            after_stop = sum(calls)
            end = time.monotonic() + 30
            while sum(calls) == after_stop and not errors and time.monotonic() < end:
                time.sleep(0.01)
            stop.set()
            for thread in threads:
                thread.join()
        assert status == 0 and not errors, errors[:3]
        assert sum(calls) > after_stop > 0
