"""`rankd serve` over signals that are shared through Redis: workspaces, rows of every kind, and what calls give."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from support.redis_servers import RedisCluster, RedisServer
from support.serving import ServerProcess

from rankd.client import Client
from rankd.types.text import composite_id
from rankd.v1 import ranking_pb2 as pb
from rankd.v1 import signals_pb2 as sp
from rankd.v1.ranking_pb2_grpc import RankingServiceStub
from rankd.v1.signals_pb2_grpc import SignalServiceStub

ITEMS = [f"item-{i}" for i in range(60)]
USERS = [f"user-{i}" for i in range(20)]
BRANDS = ["Fjell", "Altra", "Skog", "Zürich"]
NOW_MS = 1_790_000_000_000

SCHEMA: dict[str, Any] = {
    "item": {
        "price": "f32",
        "stock": "i64",
        "listed": "timestamp",
        "fresh": "bool",
        "brand": "category",
        "title": "string",
        "vector": "embedding[3]",
        "tags": "set",
        "clicks": {"type": "decayed_counter", "half_life": "7d"},
    },
    "user": {
        "age": "f32",
        "visits": "i64",
        "home": "category",
        "likes": "set",
        "taste": "embedding[3]",
        "affinity": "map",
    },
    "session": {"depth": "f32", "brand": "category"},
    "user_brand": {"bought": "f32"},
}

PROFILE: dict[str, Any] = {
    "features": {
        "price": "item.price",
        "stock": "item.stock",
        "clicks": "item.clicks",
        "age": "user.age",
        "visits": "user.visits",
        "liked": "overlap(user.likes, item.tags)",
        "taste": "cosine(user.taste, item.vector)",
        "affinity": "lookup(user.affinity, item.brand)",
        "depth": "session.depth",
        "bought": "user_brand.bought",
    },
    "base": "coalesce(price, 0) + 100 * coalesce(age, 0) + 1000 * coalesce(depth, 0)",
}


def write_workspace(folder: Path, at: RedisServer | RedisCluster | None = None, **settings: Any) -> Path:
    """`at`: None: the embedded backend. `settings`: of `signals.redis`, and `server`."""
    folder.mkdir(parents=True, exist_ok=True)
    server = {"listen": "127.0.0.1:0", "health_listen": "127.0.0.1:0", "workers": 2, "drain_seconds": 0.2}
    server |= {"data_dir": None} | settings.pop("server", {})
    schema, profile = settings.pop("schema", SCHEMA), settings.pop("profile", PROFILE)
    signals: dict[str, Any] = {"backend": "embedded"}
    if at is not None:
        redis = {"url": at.url, "cluster": isinstance(at, RedisCluster), "shards": 4, "cache_ttl_ms": 0}
        signals = {"backend": "redis", "redis": redis | settings}
    document = {
        "version": 1,
        "schema": schema,
        "entities": {"user_brand": {"key": ["user", "item.brand"]}} if "user_brand" in schema else {},
        "signals": signals,
        "profiles": {"search": profile},
        "server": server,
    }
    (folder / "rankd.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


@contextlib.contextmanager
def serving(folder: Path, *, workers: int = 2, wait: bool = True, **environment: str) -> Iterator[ServerProcess]:
    """A server; with its log, should it not start or not end well."""
    with ServerProcess(folder, RANKD_SERVER__WORKERS=str(workers), **environment) as server:
        yield server.wait_ready() if wait else server
        if server.process.poll() is None:
            assert server.stop() == 0, "".join(server.log)


def fill(client: Client, seed: int = 7) -> None:
    """Rows of every entity, most of them with every signal."""
    random = np.random.default_rng(seed)

    def some(values: list[Any]) -> list[Any]:
        return [None if random.random() < 0.2 else value for value in values]

    n, m = len(ITEMS), len(USERS)
    items: dict[str, Any] = {
        "price": some(random.random(n).round(3).tolist()),
        "stock": some(random.integers(0, 1 << 60, n).tolist()),
        "listed": some([np.datetime64(NOW_MS - int(age), "ms") for age in random.integers(0, 10**10, n)]),
        "fresh": some((random.random(n) < 0.5).tolist()),
        "brand": some(random.choice(BRANDS, n).tolist()),
        "title": some([f"Schuh №{i} ✓" for i in range(n)]),
        "vector": some(list(random.standard_normal((n, 3)).astype(np.float32))),
        "tags": some([set(random.choice(["a", "b", "c", "d"], 2).tolist()) for _ in range(n)]),
    }
    users: dict[str, Any] = {
        "age": some(random.integers(18, 90, m).astype(float).tolist()),
        "visits": some(random.integers(0, 1000, m).tolist()),
        "home": some(random.choice(BRANDS, m).tolist()),
        "likes": some([set(random.choice(["a", "b", "c", "e"], 2).tolist()) for _ in range(m)]),
        "taste": some(list(random.standard_normal((m, 3)).astype(np.float32))),
        "affinity": some([dict.fromkeys(random.choice(BRANDS, 2).tolist(), 0.5) for _ in range(m)]),
    }
    pairs = [composite_id([user, brand]) for user in USERS for brand in BRANDS]
    client.write_signals("item", ITEMS, items, times=NOW_MS)
    clicks = sp.DoubleValues(values=random.integers(1, 9, n).astype(float).tolist())
    column = sp.SignalColumn(signal="clicks", doubles=clicks, operation=sp.OPERATION_ADD)
    client.write_message(
        sp.WriteSignalsRequest(
            entity="item", ids=ITEMS, columns=[column], unix_millis=[NOW_MS] * n, write_id=f"c{seed}"
        )
    )
    client.write_signals("user", USERS, users)
    client.write_signals("session", [f"s{u}" for u in USERS], {"depth": random.random(m).tolist()})
    client.write_signals("user_brand", pairs, {"bought": random.random(len(pairs)).tolist()})


def request(user: str, *, session: str = "", items: list[str] | None = None, view: int = pb.VIEW_FEATURES) -> Any:
    """A Rank whose answer has every feature; the request id is fixed, and so is the time."""
    return pb.RankRequest(
        profile="search",
        request_id="r",
        candidates=pb.Candidates(ids=items or ITEMS),
        user=pb.User(user_id=user, session_id=session),
        view=view,
        as_of=Timestamp(seconds=NOW_MS // 1000 + 86_400),
    )


@contextlib.contextmanager
def channels(server: ServerProcess, count: int = 8) -> Iterator[list[grpc.Channel]]:
    """Connections of their own, which the kernel spreads over the workers."""
    with contextlib.ExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        yield [stack.enter_context(grpc.insecure_channel(server.address, options)) for _ in range(count)]


def rank(channel: grpc.Channel, what: pb.RankRequest, timeout_s: float = 10.0) -> Any:
    return RankingServiceStub(channel).Rank(what, timeout=timeout_s, wait_for_ready=True)


def feature(answer: Any, name: str) -> list[float]:
    """A feature of the answer, in the order of its ids."""
    return list(next(column for column in answer.features if column.name == name).values)


def user_age(channel: grpc.Channel, user: str) -> float:
    """As ranking sees it."""
    return float(feature(rank(channel, request(user, items=["item-0"])), "age")[0])


def item_price(channel: grpc.Channel, item: str) -> float:
    """As ranking sees it."""
    return float(feature(rank(channel, request("", items=[item])), "price")[0])


def write(channel: grpc.Channel, entity: str, ids: list[str], signal_name: str, values: list[float]) -> Any:
    """Numbers; not tried again."""
    column = sp.SignalColumn(signal=signal_name, floats=sp.FloatValues(values=values))
    message = sp.WriteSignalsRequest(entity=entity, ids=ids, columns=[column])
    return SignalServiceStub(channel).WriteSignals(message, timeout=10)


def status(server: ServerProcess) -> dict[str, Any]:
    """`rankd status --json`."""
    return json.loads(_run_status(server, "--json"))  # type: ignore[no-any-return]


def status_text(server: ServerProcess) -> str:
    """`rankd status`."""
    return _run_status(server)


def _run_status(server: ServerProcess, *more: str) -> str:
    command = [sys.executable, "-m", "rankd", "status", str(server.directory), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout, done.stderr
    return done.stdout


def process_id(server: ServerProcess, name: str) -> int:
    """Of "keeper", "worker 0" …; 0: there is none at the moment."""
    return int(next(row for row in status(server)["processes"] if row["name"] == name)["pid"] or 0)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing for as long as the block lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def until(condition: Callable[[], Any], seconds: float = 20.0, why: Callable[[], str] = str) -> float:
    """Waits until it is so; how long that took. The bound only keeps a test from hanging."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, why()
        time.sleep(0.01)
    return time.monotonic() - started


class Load:
    """Ranks, one after the other on each of some connections, for as long as the block lasts. `tries`: of a call;
    workers that are replaced may take calls with them."""

    def __init__(self, server: ServerProcess, threads: int = 3, timeout_s: float = 5.0, tries: int = 1) -> None:
        self._server, self._timeout_s, self._tries = server, timeout_s, tries
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]
        self._lock = threading.Lock()
        self.failed: list[str] = []
        self.answers: list[tuple[float, float, Any]] = []
        """When each was there, how long it took, and its degradation."""

    def _run(self, number: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self._server.address, options) as channel:
            at, tries = number, 0
            while not self._stopping.is_set():
                at, tries = at + 1, tries + 1
                user = USERS[at % len(USERS)]
                what = request(user, session=f"s{user}", items=ITEMS[:10], view=pb.VIEW_SCORES)
                started = time.monotonic()
                try:
                    answer = rank(channel, what, self._timeout_s)
                except grpc.RpcError as error:
                    lost = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)  # type: ignore[attr-defined]
                    if lost and tries < self._tries:
                        continue
                    with self._lock:
                        self.failed.append(f"{error.code()}: {error.details()}")  # type: ignore[attr-defined]
                    continue
                now, tries = time.monotonic(), 0
                with self._lock:
                    self.answers.append((now, now - started, answer.degradation))
                time.sleep(0.002)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def degraded(self, since: float = 0.0) -> list[Any]:
        """Degradations told since then."""
        with self._lock:
            return [told for at, _, told in self.answers if at >= since and told.level]

    def whole(self, since: float) -> int:
        """How many complete answers there have been since then."""
        with self._lock:
            return sum(1 for at, _, told in self.answers if at >= since and not told.level)

    def last_incomplete(self) -> float:
        """When the last incomplete answer was there."""
        with self._lock:
            return max((at for at, _, told in self.answers if told.level), default=0.0)

    def slowest(self, since: float = 0.0) -> float:
        """Seconds."""
        with self._lock:
            return max((took for at, took, _ in self.answers if at >= since), default=0.0)


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, float]:
    """Of a call that fails: the code, what is said, and after how many seconds."""
    started = time.monotonic()
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details(), time.monotonic() - started  # type: ignore[attr-defined]
    raise AssertionError("it was expected to fail")


def commands(server: RedisServer) -> Mapping[str, int]:
    """How often Redis was sent each command so far."""
    with server.client() as client:
        stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(one["calls"]) for name, one in stats.items()}
