"""Where Redis is, and the bounds of talking to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MOST_ROWS_PER_SCRIPT: Final = 256
"""A script runs alone in Redis; this many rows take about a millisecond."""


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """`url`: redis:// or rediss:// with host, port and database, or unix:///path. `cluster`: it is a node of a Cluster.
    `shards`: buckets of each entity; it never changes while there are rows. `stream_length`: rows that each bucket's
    stream of changes keeps; a replica that is further behind reads all rows again. `max_connections`: to each node.
    `socket_timeout_s`: of one round trip of a read; a write may take `write_timeout_s` in all, a page of a scan
    `scan_timeout_s`. What was written is remembered for `remember_writes_s`, at most `most_writes` of an entity, a
    deleted row's time for `remember_deletes_s`."""

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    cluster: bool = False
    shards: int = 16
    prefix: str = "rk"
    socket_timeout_s: float = 0.1
    connect_timeout_s: float = 0.25
    write_timeout_s: float = 2.0
    scan_timeout_s: float = 5.0
    stream_length: int = 10_000
    max_connections: int = 16
    remember_writes_s: float = 24 * 3600.0
    most_writes: int = 10_000_000
    remember_deletes_s: float = 3600.0
