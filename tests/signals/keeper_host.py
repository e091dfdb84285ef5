"""Keepers in another process, for tests of the stores that write through them.

Run as a program it reads commands (JSON) from its standard input and answers each with a line: it opens a store,
embedded or over Redis, and a keeper before it, or closes them. `KeeperHost` is the other end.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signals.conformance import SCHEMA, Clock

from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.signals.keeper import SignalKeeper
from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.private import CacheOptions
from rankd.signals.redis.replicated import ReplicatedStore, open_replicated
from rankd.signals.redis.shared import SharedRedisStore, open_shared_redis
from rankd.signals.shared import SharedStore, open_shared
from rankd.signals.store import WriteBatch, WriteResult
from rankd.types.schema import Schema


class KeeperHost:
    """A process that holds any number of keepers. `directory`: a short path (that of a Unix socket has 107 bytes)."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self._clock_file = directory / "clock"
        self._told_s = 0.0
        self.set_clock(Clock())
        self._count = 0
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(self._clock_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )

    def set_clock(self, clock: Clock) -> None:
        if self._told_s != clock.now_s:
            new = self._clock_file.with_suffix(".new")
            new.write_bytes(struct.pack("d", clock.now_s))
            new.replace(self._clock_file)  # at once: the other process reads it all the time
            self._told_s = clock.now_s

    def ask(self, **command: Any) -> str:
        """The answer: "" or what went wrong."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the process of the keeper died"
        answer: str = json.loads(line)
        return answer

    def open_keeper(
        self,
        schema: Schema = SCHEMA,
        max_rows: int = 1000,
        data_dir: Path | None = None,
        redis: RedisOptions | None = None,
    ) -> Path:
        """Its socket. `redis`: its store is over that, not embedded."""
        self._count += 1
        path = self.directory / f"s{self._count}"
        data = None if data_dir is None else str(data_dir)
        dumped = pickle.dumps((schema, redis)).hex()
        assert self.ask(do="open", path=str(path), what=dumped, max_rows=max_rows, data_dir=data) == ""
        return path

    def close_keeper(self, path: Path) -> None:
        assert self.ask(do="close", path=str(path)) == ""

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL

    def close(self) -> None:
        for end in (self.process.stdin, self.process.stdout):
            if end is not None:
                end.close()
        if self.process.poll() is None:
            self.process.wait(20)


class Hosted:
    """A store beside a keeper in the host's process, which has the test's clock and is closed with it; so are the
    stores `beside` it."""

    def __init__(self, store: SharedStore | SharedRedisStore, host: KeeperHost, clock: Any, path: Path) -> None:
        self.store, self.host, self.clock, self.path = store, host, clock, path
        self.others: list[Hosted] = []
        self.is_first = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def write(self, batch: WriteBatch) -> WriteResult:
        self.host.set_clock(self.clock)
        return await self.store.write(batch)

    async def delete(self, entity: str, ids: Sequence[str]) -> int:
        self.host.set_clock(self.clock)
        return await self.store.delete(entity, ids)

    async def forget(self, user_id: str) -> Mapping[str, int]:
        self.host.set_clock(self.clock)
        return await self.store.forget(user_id)

    async def close(self) -> None:
        for other in self.others:
            await other.close()
        self.others.clear()
        await self.store.close()
        if self.is_first:
            self.is_first = False
            self.host.close_keeper(self.path)


async def open_hosted(
    host: KeeperHost,
    schema: Schema = SCHEMA,
    max_rows: int = 1000,
    clock: Any = None,
    data_dir: Path | None = None,
    redis: RedisOptions | None = None,
    cache: CacheOptions | None = None,
) -> Hosted:
    """A keeper in the host's process, and a store here that writes through it."""
    clock = clock or Clock()
    host.set_clock(clock)
    path = host.open_keeper(schema, max_rows, data_dir, redis)
    try:
        store = await _beside(schema, path, redis, cache)
    except BaseException:
        host.close_keeper(path)
        raise
    return Hosted(store, host, clock, path)


async def open_beside(first: Hosted, redis: RedisOptions | None = None, cache: CacheOptions | None = None) -> Hosted:
    """Another store that writes through the same keeper."""
    other = Hosted(await _beside(first.schema, first.path, redis, cache), first.host, first.clock, first.path)
    other.is_first = False
    first.others.append(other)
    return other


async def _beside(
    schema: Schema, path: Path, redis: RedisOptions | None, cache: CacheOptions | None
) -> SharedStore | SharedRedisStore:
    if redis is None:
        return await open_shared(schema, path)
    return await open_shared_redis(schema, path, redis, cache)


# The process.


class _Host:
    def __init__(self, clock_file: Path) -> None:
        self._clock_file = clock_file
        self._open: dict[str, tuple[SignalKeeper, EmbeddedStore | ReplicatedStore]] = {}

    def clock(self) -> float:
        now_s: float = struct.unpack("d", self._clock_file.read_bytes())[0]
        return now_s

    async def do(self, command: dict[str, Any]) -> None:
        path = command["path"]
        if command["do"] == "open":
            schema, redis = pickle.loads(bytes.fromhex(command["what"]))
            data_dir = Path(command["data_dir"]) if command["data_dir"] else None
            store: EmbeddedStore | ReplicatedStore
            if redis is None:
                store = await open_embedded(schema, data_dir, command["max_rows"], clock=self.clock)
            else:
                store = await open_replicated(
                    schema, redis, data_dir, command["max_rows"], clock=self.clock, is_alone=False
                )
            keeper = SignalKeeper(store, Path(path))
            await keeper.start()
            self._open[path] = keeper, store
        else:
            keeper, store = self._open.pop(path)
            await keeper.close()
            await store.close()

    async def run(self) -> None:
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                await self.do(json.loads(line))
                answer = ""
            except Exception as error:
                answer = repr(error)
            print(json.dumps(answer), flush=True)
        for path in list(self._open):
            await self.do({"do": "close", "path": path})


async def connect(path: Path, **options: Any) -> SharedStore:
    return await open_shared(SCHEMA, path, **options)


async def eventually(condition: Any, timeout_s: float = 20.0) -> None:
    """Waits until the condition holds; fails if it does not come to that."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to that"
        await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(_Host(Path(sys.argv[1])).run())
