"""The stores of the processes of a server, as `signals` in the workspace says. What speaks to Redis is imported where
it is wanted: it takes 10 MB a process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from rankd.errors import ConfigError
from rankd.server.signal_service import Replica, ReplicaStatus
from rankd.signals.compaction import LogBounds
from rankd.signals.embedded import EmbeddedStore, OnProgress, open_embedded
from rankd.signals.recall import Remembering
from rankd.signals.shared import SharedStore, open_shared
from rankd.signals.store import SignalStore
from rankd.workspace import Workspace

if TYPE_CHECKING:
    from rankd.signals.redis.options import RedisOptions
    from rankd.signals.redis.replicated import ReplicatedStore
    from rankd.signals.redis.shared import SharedRedisStore


async def open_keeper_store(workspace: Workspace, on_progress: OnProgress) -> EmbeddedStore | ReplicatedStore:
    """Of the process that writes. StoreError, ConfigError."""
    limits, signals = workspace.settings.server.limits, workspace.settings.signals
    if signals.backend == "redis":
        from rankd.signals.redis.replicated import open_replicated

        return await open_replicated(
            workspace.schema,
            redis_options(workspace),
            workspace.data_dir,
            limits.max_rows_per_entity,
            max_bytes_per_entity=limits.max_bytes_per_entity,
            on_progress=on_progress,
            is_alone=False,
        )
    return await open_embedded(
        workspace.schema,
        workspace.data_dir,
        limits.max_rows_per_entity,
        max_bytes_per_entity=limits.max_bytes_per_entity,
        on_progress=on_progress,
        seen=Remembering(round(signals.remember_writes_hours * 3_600_000), signals.max_remembered_writes),
        deleted=Remembering(round(signals.remember_deletes_seconds * 1_000), signals.max_remembered_deletes),
        log=LogBounds(signals.compact_log_mb << 20, signals.compact_ratio, signals.max_log_mb << 20),
    )


async def open_worker_store(
    workspace: Workspace, keeper_socket: Path, on_replaced: Callable[[], None]
) -> SharedStore | SharedRedisStore:
    """Of a process that answers requests. UnavailableError, StoreError, ConfigError."""
    settings = workspace.settings
    if settings.signals.backend == "redis":
        from rankd.signals.redis.private import CacheOptions
        from rankd.signals.redis.shared import open_shared_redis

        redis = settings.signals.redis
        cache = CacheOptions(redis.cache_ttl_ms / 1e3, redis.cache_rows, settings.server.limits.max_bytes_per_entity)
        return await open_shared_redis(
            workspace.schema, keeper_socket, redis_options(workspace), cache, on_replaced=on_replaced
        )
    return await open_shared(workspace.schema, keeper_socket, on_replaced=on_replaced)


def redis_options(workspace: Workspace) -> RedisOptions:
    """How the workspace's Redis is reached. ConfigError if the password cannot be read."""
    from rankd.signals.redis.options import RedisOptions

    signals = workspace.settings.signals
    redis = signals.redis
    return RedisOptions(
        redis.url,
        username=redis.username,
        password=_password(workspace),
        cluster=redis.cluster,
        shards=redis.shards,
        prefix=redis.prefix,
        socket_timeout_s=redis.socket_timeout_ms / 1e3,
        connect_timeout_s=redis.connect_timeout_ms / 1e3,
        stream_length=redis.stream_length,
        max_connections=redis.max_connections,
        remember_writes_s=signals.remember_writes_hours * 3_600,
        most_writes=signals.max_remembered_writes,
        remember_deletes_s=signals.remember_deletes_seconds,
    )


def _password(workspace: Workspace) -> str | None:
    name = workspace.settings.signals.redis.password_file
    if name is None:
        return None
    try:
        return (workspace.root / name).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"signals.redis.password_file: {name} cannot be read: {reason}") from None


@runtime_checkable
class _Following(Protocol):
    @property
    def following(self) -> tuple[bool, float]: ...


def replica_status(store: SignalStore) -> ReplicaStatus | None:
    """How the machine's tables follow Redis; None where nothing is shared."""
    if isinstance(store, _Following):
        return lambda: Replica(*store.following)
    return None
