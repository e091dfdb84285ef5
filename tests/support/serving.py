"""Real servers over real sockets, in this process or in one of their own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from support.fakes import Weighted

from rankd.models.scorer import LoadedModel
from rankd.ranking.build import build_plan
from rankd.ranking.plan import Plan
from rankd.server.server import Server
from rankd.signals.embedded import open_embedded
from rankd.signals.store import SignalStore
from rankd.telemetry.tracing import Tracer
from rankd.types.profile import ContextFeature, ContextKind, Feature, Profile
from rankd.types.schema import Entity, Schema, Signal, SignalKind
from rankd.v1.ranking_pb2_grpc import RankingServiceStub
from rankd.v1.signals_pb2_grpc import SignalServiceStub
from rankd.workspace import Settings

SCHEMA = Schema(
    {
        "item": Entity(
            "item",
            {
                s.name: s
                for s in (
                    Signal("price", SignalKind.F32),
                    Signal("stock", SignalKind.I64),
                    Signal("listed", SignalKind.TIMESTAMP),
                    Signal("fresh", SignalKind.BOOL),
                    Signal("brand", SignalKind.CATEGORY),
                    Signal("title", SignalKind.STRING),
                    Signal("vector", SignalKind.EMBEDDING, dimension=3),
                    Signal("tags", SignalKind.SET),
                    Signal("weights", SignalKind.MAP),
                )
            },
        ),
        "user": Entity("user", {"age": Signal("age", SignalKind.F32)}),
        "query": Entity("query", {"ctr": Signal("ctr", SignalKind.F32)}),
    }
)
"""One signal of every kind."""


SEARCH = Profile(
    "search",
    columns=("bm25", "ctr"),
    context={
        c.name: c
        for c in (
            ContextFeature("hour", ContextKind.NUMBER),
            ContextFeature("vip", ContextKind.BOOL),
            ContextFeature("since", ContextKind.TIMESTAMP),
            ContextFeature("device", ContextKind.CATEGORY),
            ContextFeature("note", ContextKind.TEXT),
            ContextFeature("likes", ContextKind.SET),
            ContextFeature("taste", ContextKind.EMBEDDING, dimension=3),
        )
    },
    features=(
        Feature("price", "item.price"),
        Feature("bm25", "column.bm25"),
        Feature("hour", "context.hour"),
        Feature("user_age", "user.age"),
        Feature("age_s", "request.now - item.listed"),
        Feature("taste", "cosine(context.taste, item.vector)"),
        Feature("liked", "overlap(context.likes, item.tags)"),
    ),
    base="coalesce(bm25, 0)",
    model="m",
)
"""A profile with every kind of context feature, a base expression and a model."""


def search_plans(store: SignalStore, cost: float = 1.0) -> dict[str, Plan]:
    """`search`, compiled for real, with a model that adds price and bm25; `plain` has no model and no base."""
    scorer = Weighted({"price": 1.0, "bm25": 1.0}, cost)
    models = {"m": LoadedModel("m", "m@0123456789ab", scorer)}
    plain = Profile("plain", columns=("bm25",), features=(Feature("bm25", "column.bm25"),))
    return {p.name: build_plan(p, SCHEMA, store.categories, models) for p in (SEARCH, plain)}


def settings(**server: Any) -> Settings:
    """Settings for tests: any free port, memory only, no time lost on draining."""
    base = {"listen": "127.0.0.1:0", "health_listen": "127.0.0.1:0", "data_dir": None, "drain_seconds": 0.0}
    return Settings.model_validate({"server": {**base, **server}})


class Client:
    """Plain generated stubs on one channel, as any client would use them."""

    def __init__(self, server: Server) -> None:
        self.channel = grpc.aio.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)])
        self.ranking: Any = RankingServiceStub(self.channel)
        self.signals: Any = SignalServiceStub(self.channel)

    def raw(self, method: str) -> Any:
        """A method that sends and returns bytes."""
        return self.channel.unary_unary(f"/rankd.v1.{method}")


@contextlib.asynccontextmanager
async def running(
    plans: Mapping[str, Plan] | None = None,
    store: SignalStore | None = None,
    tracer: Tracer | None = None,
    **server: Any,
) -> AsyncIterator[tuple[Server, Client]]:
    """A server in this process, and a client of it. Default: search_plans over an empty store."""
    store = store if store is not None else await open_embedded(SCHEMA, None, 1_000_000)
    plans = plans if plans is not None else search_plans(store)
    it = Server(settings(**server), tracer)
    await it.start_health()
    await it.start(plans, store)
    client = Client(it)
    try:
        yield it, client
    finally:
        await client.channel.close()
        it.hurry()
        await it.stop()


def details(error: grpc.RpcError) -> tuple[status_pb2.Status, error_details_pb2.ErrorInfo, list[tuple[str, str]]]:
    """The google.rpc.Status of a failed call, its ErrorInfo, and (field, description) of its violations."""
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():  # type: ignore[attr-defined]
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    return status, *unpack(status)


def unpack(status: status_pb2.Status) -> tuple[error_details_pb2.ErrorInfo, list[tuple[str, str]]]:
    """ErrorInfo and violations of a status."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    return info, [(v.field, v.description) for v in bad.field_violations]


# Root may read and write what it likes; run by this, `rankd` may not (CAP_DAC_OVERRIDE is dropped). Not a
# preexec_fn: that would fork this process, and gRPC's threads do not survive a fork.
_HEED_PERMISSIONS = """
import ctypes, os, sys
if os.geteuid() == 0 and ctypes.CDLL(None).prctl(24, 1, 0, 0, 0):
    sys.exit("prctl failed")
os.execv(sys.executable, [sys.executable, "-m", "rankd", *sys.argv[1:]])
"""

_GREETING = re.compile(r"serving on (\S+), health on (\S+);")


class ServerProcess:
    """`rankd serve` of a workspace directory, in a process of its own; `log` is what it wrote to stderr."""

    def __init__(self, directory: Path, heed_permissions: bool = False, **environment: str) -> None:
        """`environment`: variables such as RANKD_SERVER__LISTEN. `heed_permissions`: even as root."""
        self.directory = directory
        how = ["-c", _HEED_PERMISSIONS] if heed_permissions else ["-m", "rankd"]
        self.process = subprocess.Popen(
            [sys.executable, *how, "serve", str(directory)],
            stderr=subprocess.PIPE,
            text=True,
            # One worker starts sooner; tests of several say so.
            env={**os.environ, "RANKD_SERVER__WORKERS": "1", **environment},
        )
        self.log: list[str] = []
        self.address = self.health_address = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if match := _GREETING.search(line):
                self.address, self.health_address = match.groups()
                self._ready.set()
        self._ready.set()

    def wait_ready(self, timeout_s: float = 30.0) -> ServerProcess:
        """Returns when it serves; fails with its log if it does not."""
        assert self._ready.wait(timeout_s), "".join(self.log)
        assert self.address, "".join(self.log)
        return self

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        """Signals it; the exit status."""
        self.process.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 30.0) -> int:
        """The exit status, when it has ended by itself."""
        status = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return status

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
