"""Settings: how the server runs, as opposed to what it ranks. The sections `server`,
`tracing` and `signals`.

Every one can be set in rankd.yaml or by an environment variable (see environment.py).
Units are in the names. The docstrings below are the reference: the JSON Schema shows them.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    create_model,
    field_validator,
)
from pydantic_core import CoreSchema, core_schema

from rankd.limits import HARD_REQUEST_LIMITS, RequestLimits
from rankd.workspace.values import Address, parse_address
from rankd.workspace.yaml_text import shown


class Section(BaseModel):
    """A mapping of rankd.yaml: immutable, strict about types, and every key is known."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


def _check_address(text: str) -> str:
    parse_address(text)
    return text


def _check_endpoint(text: str) -> str:
    try:
        url = urlsplit(text)
        good = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        good = False
    if not good or not text.isprintable() or " " in text:
        raise ValueError(f"expected a URL such as http://127.0.0.1:4317, got {shown(text)}")
    return text


def _check_redis_url(text: str) -> str:
    # A password has no place here: settings are shown in logs and answers.
    try:
        url = urlsplit(text)
        if url.scheme == "unix":
            good = url.path.startswith("/") and not url.netloc
        else:
            good = url.scheme in ("redis", "rediss") and bool(url.hostname) and (url.port is None or url.port > 0)
            good = good and re.fullmatch(r"/?|/[0-9]{1,3}", url.path) is not None
        good = good and not url.query and not url.fragment and url.username is None and url.password is None
    except ValueError:
        good = False
    if not good or not text.isprintable() or " " in text:
        hidden = (
            "one with a user or password, which belong in username and password_file" if "@" in text else shown(text)
        )
        raise ValueError(f"expected a URL such as redis://127.0.0.1:6379 or unix:///run/redis.sock, got {hidden}")
    return text


def _check_path(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError(f"expected a path, got {shown(text)}")
    return text


AddressText = Annotated[str, AfterValidator(_check_address)]
PathText = Annotated[str, AfterValidator(_check_path)]

# One field per field of RequestLimits, so that a limit is named and given its default in one place.
LimitsSection: type[Section] = create_model(  # type: ignore[call-overload]
    "Limits",
    __base__=Section,
    __doc__="Bounds on requests, enforced before anything is allocated for them.",
    **{
        f.name: (Annotated[int, Field(ge=1, le=getattr(HARD_REQUEST_LIMITS, f.name))], f.default)
        for f in dataclasses.fields(RequestLimits)
    },
)


class _AsRequestLimits:
    """Reads a RequestLimits from a mapping by way of LimitsSection."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def convert(section: Section) -> RequestLimits:
            return RequestLimits(**section.model_dump())

        return core_schema.no_info_after_validator_function(
            convert,
            handler.generate_schema(LimitsSection),
            serialization=core_schema.plain_serializer_function_ser_schema(dataclasses.asdict),
        )


class LogSettings(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that is written."""
    format: Literal["text", "json"] = "text"
    """text for people, json (an object a line) for machines."""


class ReloadSettings(Section):
    """Taking over changed profiles and models while serving."""

    watch: bool = True
    """Look whether rankd.yaml or a model file has changed. SIGHUP reloads with or without it."""
    interval_seconds: float = Field(default=1.0, ge=0.05, le=3_600)
    """How often to look. What has changed is read when two looks in a row have found the same."""


class AdmissionSettings(Section):
    """Which calls are worked on, and how thoroughly, when there are more than can be."""

    enabled: bool = True
    """False: only deadlines that have passed and what waits in gRPC's core are refused."""
    max_pending_calls: int = Field(default=64, ge=1, le=100_000)
    """Calls that wait in gRPC's core for a worker: above it some, above twice as many all are refused (CANCELLED)."""
    max_concurrency: int = Field(default=64, ge=1, le=10_000)
    """Long calls that wait for or run on threads, at most; the limit falls below it while they wait too long."""
    target_queue_ms: float = Field(default=5.0, gt=0, le=60_000)
    """How long the luckiest of the long calls may wait for a thread before the limit falls."""
    ladder: Literal["off", "fewer", "base"] = "base"
    """The cheapest answer that overload or a short deadline may lead to; off: rather an error."""


class ServerSettings(Section):
    """The gRPC server."""

    allow_insecure: bool = False
    """Listen beyond loopback although connections are neither encrypted nor authenticated."""
    listen: AddressText = "127.0.0.1:50051"
    """Where RankingService and SignalService listen: host:port (0: any free port), [IPv6]:port or unix:/path."""
    health_listen: AddressText = "127.0.0.1:50052"
    """Where health checks and reflection listen, apart, so that overload cannot fail a probe."""
    metrics_listen: AddressText | None = None
    """Where Prometheus scrapes metrics of signals: host:port (0: any free port) or [IPv6]:port; null: nowhere."""
    metrics_interval_seconds: float = Field(default=10.0, ge=0.1, le=3_600)
    """How often the gauges among them are sampled."""
    data_dir: PathText | None = "data"
    """Where signals are kept, relative to the workspace; null: in memory only, lost at exit."""
    workers: int | None = Field(default=None, ge=1, le=1_024)
    """Processes that answer calls; null: as many as there are CPUs for them (affinity and cgroup quota)."""
    worker_max_rss_mb: int | None = Field(default=None, ge=64, le=1_048_576)
    """A worker with more memory of its own (MiB; mapped tables do not count) is replaced; null: never."""
    reflection: bool = False
    """Serve gRPC reflection on health_listen."""
    drain_seconds: float = Field(default=2.0, ge=0, le=3_600)
    """After SIGTERM: how long to go on serving with health at NOT_SERVING, so that clients move away."""
    shutdown_grace_seconds: float = Field(default=10.0, ge=0, le=3_600)
    """After draining: how long calls in flight may take to finish."""
    default_deadline_ms: float | None = Field(default=5_000.0, gt=0, le=3_600_000)
    """The deadline of calls that come without one; null: none."""
    event_loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    """auto: uvloop where it is installed."""
    admission: AdmissionSettings = AdmissionSettings()
    """Overload."""
    limits: Annotated[RequestLimits, _AsRequestLimits] = RequestLimits()
    """Bounds on requests."""
    log: LogSettings = LogSettings()
    """Logging."""
    reload: ReloadSettings = ReloadSettings()
    """Hot reload."""

    @property
    def listen_address(self) -> Address:
        """`listen`, parsed."""
        return parse_address(self.listen)

    @property
    def health_listen_address(self) -> Address:
        """`health_listen`, parsed."""
        return parse_address(self.health_listen)

    @property
    def metrics_listen_address(self) -> Address | None:
        """`metrics_listen`, parsed."""
        return None if self.metrics_listen is None else parse_address(self.metrics_listen)

    @field_validator("metrics_listen")
    @classmethod
    def _check_port(cls, text: str | None) -> str | None:
        if text is not None and parse_address(text).socket_path:
            raise ValueError(f"expected host:port, got {shown(text)}")
        return text

    @field_validator("listen", "health_listen", "metrics_listen")
    @classmethod
    def _check_loopback(cls, text: str | None, info: Any) -> str | None:
        # allow_insecure stands before them, so that it is known here; if it is itself wrong, that is reported alone.
        if text is None or info.data.get("allow_insecure", True):
            return text
        if not parse_address(text).is_loopback:
            raise ValueError(
                f"expected a loopback address, got {shown(text)}: others could connect without encryption or "
                "authentication; set server.allow_insecure: true if that is meant"
            )
        return text

    @field_validator("health_listen", "metrics_listen")
    @classmethod
    def _check_apart(cls, text: str | None, info: Any) -> str | None:
        if text is None:
            return None
        address = parse_address(text)
        for name in ("listen", "health_listen"):
            other = info.data.get(name) if name != info.field_name else None
            if other is not None and parse_address(other) == address and (address.port or address.socket_path):
                raise ValueError(f"expected an address other than that of server.{name}, got {shown(text)} for both")
        return text


class TracingSettings(Section):
    """OpenTelemetry traces: one per request."""

    otlp_endpoint: Annotated[str, AfterValidator(_check_endpoint)] | None = None
    """The OTLP gRPC receiver, such as http://127.0.0.1:4317 (https: with TLS); null: tracing is off."""
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """The share of traces started here that are recorded; traces started by the caller follow the caller's choice."""
    service_name: str = Field(default="rankd", min_length=1, max_length=256)
    """The resource attribute service.name."""
    export_timeout_ms: int = Field(default=10_000, ge=1, le=600_000)
    """How long one export may take before its spans are dropped."""
    shutdown_flush_ms: int = Field(default=2_000, ge=0, le=600_000)
    """How long exit waits for the last spans to be exported."""


class RedisSettings(Section):
    """The Redis or Valkey that signals are shared through, if `signals.backend` is redis."""

    url: Annotated[str, AfterValidator(_check_redis_url)] = "redis://127.0.0.1:6379"
    """redis://host:port[/database], rediss:// (TLS) or unix:///path; of a Cluster any of its nodes."""
    username: str | None = Field(default=None, min_length=1, max_length=256)
    """The user of an ACL; null: the default one."""
    password_file: PathText | None = None
    """A file with the password, relative to the workspace; null: none is needed."""
    cluster: bool = False
    """It is a Redis Cluster."""
    prefix: str = Field(default="rk", pattern=r"^[A-Za-z0-9_.-]{1,32}$")
    """What keys begin with."""
    shards: int = Field(default=16, ge=1, le=4_096)
    """Groups of rows that are written together, for each entity. Fixed once there are rows."""
    stream_length: int = Field(default=10_000, ge=100, le=100_000_000)
    """Changes kept for each group of rows; a machine that is further behind reads all rows again."""
    connect_timeout_ms: int = Field(default=250, ge=1, le=60_000)
    """How long a connection may take."""
    socket_timeout_ms: int = Field(default=100, ge=1, le=60_000)
    """How long an answer may take."""
    max_connections: int = Field(default=16, ge=1, le=1_024)
    """Connections of a process to each node."""
    cache_ttl_ms: int = Field(default=1_000, ge=0, le=3_600_000)
    """How long a fetched row may be used again; 0: it is fetched for each request."""
    cache_rows: int = Field(default=65_536, ge=1_024, le=100_000_000)
    """Fetched rows that a worker keeps, of each entity."""


class SignalsSettings(Section):
    """The signal store."""

    backend: Literal["embedded", "redis"] = "embedded"
    """embedded: on this machine, in server.data_dir. redis: shared by machines."""
    compact_log_mb: int = Field(default=256, ge=1, le=1_048_576)
    """Log since the last snapshot (MiB) from which on a new snapshot is written and older logs go."""
    compact_ratio: float = Field(default=0.5, gt=0, le=100)
    """And at least that much of the last snapshot's size."""
    max_log_mb: int = Field(default=16_384, ge=2, le=16_777_216)
    """Log (MiB) at which writes wait for the snapshot that is being written."""
    remember_writes_hours: float = Field(default=24.0, gt=0, le=8_784)
    """How long write ids and event ids are remembered, so that nothing is applied twice."""
    max_remembered_writes: int = Field(default=10_000_000, ge=1_000, le=2_000_000_000)
    """Write ids and event ids that are remembered at most; the oldest go first."""
    remember_deletes_seconds: float = Field(default=3_600.0, gt=0, le=31_622_400)
    """How long a deleted row refuses values of a time before its deletion."""
    max_remembered_deletes: int = Field(default=1_000_000, ge=0, le=2_000_000_000)
    """Deleted rows that are remembered at most; the oldest go first."""
    redis: RedisSettings = RedisSettings()
    """Redis."""


class Settings(Section):
    """All settings."""

    server: ServerSettings = ServerSettings()
    tracing: TracingSettings = TracingSettings()
    signals: SignalsSettings = SignalsSettings()

    @classmethod
    def sections(cls) -> tuple[str, ...]:
        """The top-level keys of rankd.yaml that hold settings."""
        return tuple(cls.model_fields)
