"""The keeper: clients that send rubbish, too much or nothing; and a keeper that is killed while it is written to."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from signals.conformance import FULL, NOW_S, SCHEMA, get_rows, rows_batch
from signals.keeper_host import KeeperHost, connect, eventually

from rankd.errors import RankdError, StoreError, StoreFullError, UnavailableError
from rankd.signals import frames, keeper
from rankd.signals.embedded import open_embedded
from rankd.signals.frames import ANSWER, Count, Counts, Failed, Hello, Intern, PackedColumn, Write, Written, frame_of
from rankd.signals.keeper import SignalKeeper

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rankd-keeper-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def kept(directory: Path) -> AsyncIterator[SignalKeeper]:
    store = await open_embedded(SCHEMA, None, 1000)
    kept = SignalKeeper(store, directory / "s")
    await kept.start()
    yield kept
    await kept.close()
    await store.close()


class Raw:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def greeted(cls, path: Path) -> Raw:
        raw = cls(*await asyncio.open_unix_connection(str(path)))
        raw.writer.write(frame_of(Hello(frames.PROTOCOL, SCHEMA.version)))
        await frames.read_frame(raw.reader)
        return raw

    async def ask(self, request: Any) -> Any:
        self.writer.write(frame_of(request))
        return ANSWER.decode(await frames.read_frame(self.reader))

    async def is_dropped(self) -> bool:
        self.writer.write_eof()
        return await self.reader.read() == b""


async def test_the_socket_is_its_owners_and_is_taken_over(kept: SignalKeeper, directory: Path) -> None:
    assert stat.S_IMODE((directory / "s").stat().st_mode) == 0o600
    store = await open_embedded(SCHEMA, None, 10)
    with pytest.raises(StoreError, match="cannot listen on"):
        await SignalKeeper(store, directory / "none" / "s").start()
    other = SignalKeeper(store, directory / "s")  # what a killed keeper left is in nobody's way
    await other.start()
    await other.close()
    assert not (directory / "s").exists()
    await other.close()
    await store.close()


PRICE = PackedColumn("price", None, b"", np.ones(1, np.float32).tobytes(), [], b"")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Write(7, "nothing", ["a"], []), "no such entity"),
        (Write(7, "item", ["a"], [msgspec.structs.replace(PRICE, signal="nothing")]), "KeyError"),
        (Write(7, "item", ["a"], [msgspec.structs.replace(PRICE, numbers=b"123")]), "ValueError"),
        (Write(7, "item", ["a"], [msgspec.structs.replace(PRICE, rows=b"1")]), "ValueError"),
        (Write(7, "item", ["a"], [msgspec.structs.replace(PRICE, rows=b"\1" + bytes(7))]), "rising positions below 1"),
        (Write(7, "item", ["a"], [PRICE, PRICE]), "one column per signal"),
        (Write(7, "item", ["a", "b"], [PRICE]), "2 rows of values"),
        (Write(7, "item", ["a"], [msgspec.structs.replace(PRICE, signal="new", numbers=b"\2")]), "neither 0 nor 1"),
        (Write(7, "item", ["a"], [PackedColumn("tags", None, b"", b"", ["x"], bytes(8))]), "lengths that sum"),
        (frames.Delete(7, "nothing", ["a"]), "no entity"),
        (Intern(7, ["x" * 70_000]), "at most"),
    ],
)
async def test_a_request_that_is_none_is_refused_alone(kept: SignalKeeper, request_: Any, words: str) -> None:
    raw = await Raw.greeted(kept._path)
    answer = await raw.ask(request_)
    assert isinstance(answer, Failed)
    assert (answer.number, answer.kind) == (7, "store")
    assert words in answer.message
    assert await raw.ask(Count(8)) == Counts(8, {"item": 0, "user": 0})
    assert await raw.ask(Write(9, "item", ["a"], [PRICE])) == Written(9, 1, [], 0, [])
    raw.writer.close()


@pytest.mark.parametrize(
    ("id_", "column", "words"),
    [
        ("", PRICE, "expected 1 to"),
        ("b", msgspec.structs.replace(PRICE, numbers=b"\0\0\x80\x7f"), "got inf"),
        ("b", PackedColumn("brand", None, b"", b"", ["x" * 257], b""), "257"),
    ],
)
async def test_a_faulty_value_rejects_its_row(kept: SignalKeeper, id_: str, column: PackedColumn, words: str) -> None:
    raw = await Raw.greeted(kept._path)
    answer = await raw.ask(Write(7, "item", [id_], [column]))
    assert (answer.number, answer.count, answer.late_count, answer.repeated) == (7, 0, 0, [])
    [(row, _, description, _)] = answer.rejected
    assert row == 0
    assert words in description
    assert await raw.ask(Count(8)) == Counts(8, {"item": 0, "user": 0})
    raw.writer.close()


async def test_rubbish_harms_nobody(kept: SignalKeeper, caplog: pytest.LogCaptureFixture) -> None:
    store = await connect(kept._path)
    generator = random.Random(5)
    hello, write = frame_of(Hello(frames.PROTOCOL, SCHEMA.version)), frame_of(Write(1, "item", ["r"], [PRICE]))
    for _ in range(60 * SCALE):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(kept._path))
        connection.setblocking(False)
        data = bytearray(hello + write * 2)
        for _ in range(generator.randrange(4)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        data = data[: generator.randrange(len(data) + 1)] if generator.random() < 0.5 else data
        connection.send(generator.randbytes(50) if generator.random() < 0.2 else data)
        await asyncio.sleep(0)
        connection.close()
    for name in ("x", "y"):
        assert (await store.write(rows_batch("item", [(name, FULL)]))).written_count == 1
    assert await get_rows(store, "item", ["x"]) == {"x": FULL}
    await eventually(lambda: kept.client_count == 1)
    assert not [record for record in caplog.records if record.exc_info]
    await store.close()


async def test_too_large_a_frame_and_too_many_clients(kept: SignalKeeper, monkeypatch: Any) -> None:
    raw = await Raw.greeted(kept._path)
    raw.writer.write((frames.MAX_FRAME_BYTES + 1).to_bytes(4, "little"))
    assert await raw.is_dropped()
    await eventually(lambda: kept.client_count == 0)
    monkeypatch.setattr(keeper, "MAX_CLIENTS", 2)
    held = [await Raw.greeted(kept._path) for _ in range(2)]
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await Raw.greeted(kept._path)
    for one in held:
        one.writer.close()
    await eventually(lambda: kept.client_count == 0)
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 10_000)
    store = await connect(kept._path)
    with pytest.raises(StoreError, match="too large for the signal keeper"):
        await store.write(rows_batch("item", [("a", {"title": "x" * 10_000})]))
    assert (await store.write(rows_batch("item", [("a", FULL)]))).written_count == 1
    await store.close()


async def test_no_more_is_read_than_may_be_on_its_way(kept: SignalKeeper, monkeypatch: Any) -> None:
    monkeypatch.setattr(keeper, "MAX_CLIENT_REQUESTS", 4)
    monkeypatch.setattr(keeper, "MAX_CLIENT_BYTES", 2_000)
    gate = asyncio.Event()
    entered = 0
    write = kept._store.write

    async def slow(batch: Any) -> Any:
        nonlocal entered
        entered += 1
        await gate.wait()
        return await write(batch)

    monkeypatch.setattr(kept._store, "write", slow)
    store = await connect(kept._path)
    writes = [asyncio.create_task(store.write(rows_batch("item", [(f"{n}", {"price": 1.0})]))) for n in range(50)]
    big = asyncio.create_task(store.write(rows_batch("item", [("big", {"title": "x" * 5_000})])))
    other = await Raw.greeted(kept._path)
    assert await other.ask(Count(1)) == Counts(1, {"item": 0, "user": 0})  # others are served meanwhile
    await eventually(lambda: entered == 4)
    await asyncio.sleep(0.05)
    assert entered == 4
    gate.set()
    assert [result.written_count for result in await asyncio.gather(*writes, big)] == [1] * 51
    other.writer.close()
    await store.close()


async def test_what_a_dead_client_sent_goes_through(kept: SignalKeeper) -> None:
    raw = await Raw.greeted(kept._path)
    for n in range(20):
        raw.writer.write(frame_of(Write(n, "item", [f"{n}"], [PRICE])))
    await raw.writer.drain()
    raw.writer.transport.abort()
    await eventually(lambda: kept._store.row_counts()["item"] == 20 or kept.client_count == 0)
    count = kept._store.row_counts()["item"]
    rows = await kept._store.get("item", [f"{n}" for n in range(20)], ["price"], NOW_S)
    assert rows.found.tolist() == list(range(count))  # what was read of it, in its order


async def test_errors_come_back_as_what_they_are(kept: SignalKeeper, monkeypatch: Any, caplog: Any) -> None:
    store = await connect(kept._path)
    with pytest.raises(StoreFullError, match="at most 1000 rows of item"):
        await store.write(rows_batch("item", [(f"{n}", {}) for n in range(1001)]))

    async def fail(batch: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(kept._store, "write", fail)
    with pytest.raises(StoreError, match=r"failed: RuntimeError$"):
        await store.write(rows_batch("item", [("a", {})]))
    assert any(record.exc_info for record in caplog.records)
    await store.close()


async def test_closing_finishes_what_is_on_its_way(kept: SignalKeeper) -> None:
    store = await connect(kept._path, patience_s=0.0)
    writes = [asyncio.create_task(store.write(rows_batch("item", [(f"{n}", FULL)]))) for n in range(100)]
    await asyncio.sleep(0.003)
    await kept.close()
    results = await asyncio.gather(*writes, return_exceptions=True)
    done = [f"{n}" for n, result in enumerate(results) if not isinstance(result, BaseException)]
    assert all(isinstance(r, UnavailableError) for r in results if isinstance(r, BaseException)), results
    assert set(await get_rows(kept._store, "item", [f"{n}" for n in range(100)])) >= set(done)
    await store.close()


ROWS = 20


def batch_of(n: int) -> list[tuple[str, dict[str, Any]]]:
    """A row that all write and rows of its own, of values that belong together."""
    values: dict[str, Any] = {
        "stock": n,
        "title": f"Batch {n} " * (n % 30),
        "tags": {f"t{n % 100}"},
        "affinity": {f"k{n % 100}": float(n)},
        "vector": [float(n)] * 3,
    }
    return [("hot", values), *((f"row{n}-{i}", values) for i in range(ROWS))]


async def test_a_keeper_that_is_killed_while_it_is_written_to(directory: Path, tmp_path: Path) -> None:
    generator = random.Random(13)
    host = KeeperHost(directory)
    path = directory / "s"
    path.symlink_to(host.open_keeper(max_rows=10**9, data_dir=tmp_path))
    store, reader = await connect(path, patience_s=60.0), await connect(path)
    acknowledged: set[int] = set()
    failed = torn = number = 0
    is_over = False

    async def write() -> None:
        nonlocal number, failed
        while not is_over:
            number += 1
            n = number
            try:
                await store.write(rows_batch("item", batch_of(n)))
                acknowledged.add(n)
            except RankdError as error:
                assert isinstance(error, UnavailableError), error
                failed += 1
                await asyncio.sleep(0.01)

    async def read() -> None:
        nonlocal torn
        while not is_over:
            rows = await get_rows(reader, "item", ["hot", f"row{max(acknowledged, default=1)}-3"])
            torn += sum(values != batch_of(values["stock"])[0][1] for values in rows.values())
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(work()) for work in (write, write, write, read)]
    for _ in range(4 * SCALE):
        await asyncio.sleep(generator.uniform(0.05, 0.3))
        host.kill()
        host.close()
        path.unlink()
        host = await asyncio.to_thread(KeeperHost, directory / f"h{generator.random()}")
        path.symlink_to(await asyncio.to_thread(host.open_keeper, max_rows=10**9, data_dir=tmp_path))
        before = len(acknowledged)
        await eventually(lambda before=before: len(acknowledged) > before)  # type: ignore[misc]
    is_over = True
    await asyncio.gather(*tasks)
    assert not store.is_replaced
    assert torn == 0
    assert 1 <= failed <= 3 * 4 * SCALE + 3
    stored = await get_rows(reader, "item", [id_ for n in sorted(acknowledged) for id_, _ in batch_of(n)[1:]])
    for n in acknowledged:
        for id_, values in batch_of(n)[1:]:
            assert stored[id_] == values
    await store.close()
    await reader.close()
    host.close()
