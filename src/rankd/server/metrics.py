"""Metrics of signals for Prometheus, on a port of their own: how full and how old signals are, what was written.

The keeper serves them, a process that answers no calls: overload of the workers does not silence them. What takes
time is sampled now and then, off the event loop; a scrape only prints what the last sample found.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rankd.errors import ConfigError, RankdError
from rankd.server.signal_service import ReplicaStatus
from rankd.signals.store import EntityStatistics, SignalStore
from rankd.workspace import ServerSettings

logger = logging.getLogger("rankd.server")

Counts = Callable[[], Mapping[str, Mapping[str, int]]]
"""Of writes, by entity and kind; see signals.write_counts."""

_PREFIX: Final = "rankd_signal"
_COUNTERS: Final = {
    "written": ("rows_written", "Rows accepted."),
    "rejected": ("rows_rejected", "Rows that were not written: a value or an id of theirs was faulty."),
    "repeated": ("rows_repeated", "Rows left out because their event id or the batch's write id came before."),
    "deleted": ("rows_deleted", "Rows deleted."),
    "late": ("values_late", "Values not written because the stored ones are of a later time."),
}
_FILES: Final = ("log", "snapshot", "tables")
"""What names in the data directory begin with; all else is "other"."""


@dataclass(frozen=True)
class _Sample:
    at_s: float = 0.0
    took_s: float = 0.0
    entities: Mapping[str, EntityStatistics] = field(default_factory=dict)
    file_bytes: Mapping[str, int] = field(default_factory=dict)


class SignalMetrics(Collector):
    """What a scrape gives. `replica`: None where nothing is replicated. `data_dir`: whose files are counted."""

    def __init__(
        self, store: SignalStore, counts: Counts, replica: ReplicaStatus | None = None, data_dir: Path | None = None
    ) -> None:
        self._store = store
        self._counts = counts
        self._replica = replica
        self._data_dir = data_dir
        self._sample = _Sample()

    async def sample(self) -> None:
        """Looks at a bounded part of the store."""
        now_s, start_s = time.time(), time.perf_counter()
        entities = await self._store.statistics(now_s)
        files = {} if self._data_dir is None else await asyncio.to_thread(_file_bytes, self._data_dir)
        self._sample = _Sample(now_s, time.perf_counter() - start_s, entities, files)

    async def keep_sampling(self, interval_s: float) -> None:
        """For ever. What goes wrong is logged; the next sample may go well."""
        while True:
            try:
                await self.sample()
            except RankdError as error:
                logger.warning("metrics of signals: %s", error)
            except Exception:
                logger.exception("metrics of signals failed")
            await asyncio.sleep(interval_s)

    def collect(self) -> Iterator[Metric]:
        """Called by threads of the HTTP server."""
        sample = self._sample
        yield _gauge("sample_timestamp_seconds", "When the gauges of signals were sampled, since 1970.", sample.at_s)
        yield _gauge("sample_duration_seconds", "How long that took.", sample.took_s)
        yield from self._fill(sample)
        yield from self._writes()
        bytes_ = GaugeMetricFamily(f"{_PREFIX}_file_bytes", "Bytes of files in the data directory.", labels=["kind"])
        for kind, count in sample.file_bytes.items():
            bytes_.add_metric([kind], count)
        yield bytes_
        replica = self._replica() if self._replica is not None else None
        if replica is not None:
            in_step = "1: connected, and every change known of is in this machine's tables."
            yield _gauge("replica_in_step", in_step, float(replica.in_step))
            yield _gauge("replica_lag_seconds", "How far this machine's tables are behind, at most.", replica.lag_s)

    def _fill(self, sample: _Sample) -> Iterator[Metric]:
        rows = GaugeMetricFamily(f"{_PREFIX}_rows", "Rows.", labels=["entity"])
        used = GaugeMetricFamily(f"{_PREFIX}_table_bytes", "Bytes that the rows take.", labels=["entity"])
        both = ["entity", "signal"]
        fill = GaugeMetricFamily(f"{_PREFIX}_fill_ratio", "Share of the rows that have a value.", labels=both)
        missing = GaugeMetricFamily(f"{_PREFIX}_missing_ratio", "Share of the rows that have none.", labels=both)
        median = GaugeMetricFamily(f"{_PREFIX}_age_median_seconds", "Half of the values are younger.", labels=both)
        oldest = GaugeMetricFamily(f"{_PREFIX}_age_max_seconds", "Age of the oldest value.", labels=both)
        for name, entity in sample.entities.items():
            rows.add_metric([name], entity.row_count)
            used.add_metric([name], entity.used_bytes)
            for signal, known in entity.signals.items():
                labels = [name, signal]
                if entity.row_count:
                    ratio = min(1.0, known.filled_count / entity.row_count)
                    fill.add_metric(labels, ratio)
                    missing.add_metric(labels, 1.0 - ratio)
                if not math.isnan(known.median_age_s):
                    median.add_metric(labels, known.median_age_s)
                    oldest.add_metric(labels, known.greatest_age_s)
        yield from (rows, used, fill, missing, median, oldest)

    def _writes(self) -> Iterator[Metric]:
        totals = self._counts()
        for kind, (name, text) in _COUNTERS.items():
            family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=["entity"])
            for entity in self._store.schema.entities:
                family.add_metric([entity], totals.get(entity, {}).get(kind, 0))
            yield family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _file_bytes(directory: Path) -> dict[str, int]:
    """By kind. Files come and go meanwhile."""
    found = dict.fromkeys((*_FILES, "other"), 0)
    for path in directory.rglob("*"):
        top = path.relative_to(directory).parts[0]
        kind = next((kind for kind in _FILES if top.startswith(kind)), "other")
        try:
            # What is allocated: mapped tables are sparse.
            found[kind] += path.stat().st_blocks * 512 if path.is_file() else 0
        except OSError:
            continue
    return found


class MetricsPort:
    """Serves metrics at `server.metrics_listen`, if that is set."""

    def __init__(self, settings: ServerSettings, metrics: SignalMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._served: tuple[WSGIServer, threading.Thread] | None = None
        self._sampling: asyncio.Future[Any] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listens. ConfigError if the port cannot be had."""
        address = self._settings.metrics_listen_address
        if address is None:
            return
        registry = CollectorRegistry()
        registry.register(self._metrics)
        try:
            self._served = start_http_server(address.port, address.host, registry)
        except OSError as error:
            reason = f"address {address.target} cannot be had: {error.strerror or error}"
            raise ConfigError(reason, "server.metrics_listen") from None
        self.port = self._served[0].server_port
        logger.info("metrics on http://%s:%d/metrics", address.host, self.port)
        interval_s = self._settings.metrics_interval_seconds
        self._sampling = asyncio.ensure_future(self._metrics.keep_sampling(interval_s))

    async def stop(self) -> None:
        """Stops at once."""
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.wait([self._sampling])
        if self._served is not None:
            server, thread = self._served
            await asyncio.to_thread(server.shutdown)
            server.server_close()
            await asyncio.to_thread(thread.join)
