"""Events of a Redis Stream, read by a consumer group.

At least once: an entry is acknowledged when what it changes is durable, and comes again, to another consumer if need
be, until then; the events' ids see to it that each counts once. An entry has a field `event` with a JSON object, or
fields named like an event's; its own id and key make the event's where it has no event_id. Entries that are no events,
or are refused, go to the stream KEY:rejected with the reason, in the transaction that acknowledges them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from rankd.errors import ConfigError
from rankd.events.files import parse_event
from rankd.types.event import Event

CONNECT_TIMEOUT_S: Final = 2.0
SOCKET_TIMEOUT_S: Final = 5.0
"""Beyond the time that a read may wait for entries."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the stream: its event, or why it has none. `fields` are those it has, for the stream of rejects."""

    id: str
    event: Event | None
    fault: str
    fields: Mapping[bytes, bytes]


class StreamReader:
    """Reads a stream as one consumer of a group. Blocks; for one thread.

    Methods raise redis.exceptions.RedisError where Redis is away; the same call can be made again.
    """

    def __init__(
        self, url: str, key: str, group: str, consumer: str, *, most: int = 1_000, claim_after_s: float = 30.0
    ) -> None:
        """`most`: entries a read. `claim_after_s`: entries that another consumer has had for so long are taken over.
        ConfigError for a URL that is none."""
        self._key = key
        self._mark = hashlib.sha256(key.encode()).hexdigest()[:12]
        self._group = group
        self._consumer = consumer
        self._most = most
        self._claim_after_ms = round(claim_after_s * 1000)
        self._claim_at = 0.0
        self._claim_from = "0-0"
        self._own_from: str | None = "0"  # first what this consumer had been given and had not acknowledged
        try:
            self._redis: Any = Redis.from_url(
                url,
                protocol=3,
                socket_timeout=SOCKET_TIMEOUT_S,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
            )
        except ValueError as error:
            raise ConfigError(f"expected the URL of a Redis, got {url!r}: {error}") from None

    @property
    def rejected_key(self) -> str:
        """The stream of rejected entries."""
        return f"{self._key}:rejected"

    def open(self) -> None:
        """Makes the group, from the beginning of the stream, if there is none."""
        try:
            self._redis.xgroup_create(self._key, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def read(self, wait_s: float) -> list[Entry]:
        """Entries to work on; none: nothing came for `wait_s`. First those that this consumer was given before, now and
        then those that other consumers have had for too long, then new ones."""
        while True:
            try:
                return self._read(wait_s)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                self.open()  # the stream was deleted, or Redis came back empty

    def _read(self, wait_s: float) -> list[Entry]:
        if self._own_from is not None:
            raw = self._group_read(self._own_from, None)
            self._own_from = raw[-1][0].decode() if raw else None
            if raw:
                return self._entries(raw)
        if time.monotonic() >= self._claim_at:
            reply = self._redis.xautoclaim(
                self._key, self._group, self._consumer, self._claim_after_ms, self._claim_from, count=self._most
            )
            self._claim_from, raw = reply[0].decode(), reply[1]
            if self._claim_from == "0-0":
                self._claim_at = time.monotonic() + self._claim_after_ms / 2000
            if raw:
                return self._entries(raw)
        return self._entries(self._group_read(">", max(1, round(wait_s * 1000))))

    def again(self) -> None:
        """Reads what was not acknowledged once more: after an error, nothing is known of what Redis did."""
        self._own_from = "0"

    def _group_read(self, start: str, wait_ms: int | None) -> Sequence[tuple[bytes, Any]]:
        reply = self._redis.xreadgroup(self._group, self._consumer, {self._key: start}, count=self._most, block=wait_ms)
        return [entry for pages in (reply or {}).values() for page in pages for entry in page]

    def _entries(self, raw: Iterable[tuple[bytes, Any]]) -> list[Entry]:
        found = []
        for id_, fields in raw:
            event, fault = None, ""
            if fields:  # else: deleted or trimmed before it was acknowledged
                try:
                    event = _event(f"{id_.decode()}@{self._mark}", fields)
                except ValueError as error:
                    fault = str(error)
            found.append(Entry(id_.decode(), event, fault, fields or {}))
        return found

    def finish(self, entries: Sequence[Entry], faults: Mapping[str, str]) -> None:
        """Acknowledges entries; those with a fault (by entry id) are put into the stream of rejects."""
        if not entries:
            return
        with self._redis.pipeline(transaction=True) as pipe:
            for entry in entries:
                if entry.id in faults:
                    said = {b"rejected_id": entry.id, b"rejected_reason": faults[entry.id]}
                    pipe.xadd(self.rejected_key, {**entry.fields, **said})
            pipe.xack(self._key, self._group, *(entry.id for entry in entries))
            pipe.execute()

    def close(self) -> None:
        """Ends the connection."""
        self._redis.close()


def _event(default_id: str, fields: Mapping[bytes, bytes]) -> Event:
    """The event of an entry's fields. ValueError: what is wrong."""
    try:
        texts = {name.decode(): value.decode() for name, value in fields.items()}
    except UnicodeDecodeError:
        raise ValueError("expected UTF-8, got other bytes") from None
    values: dict[str, Any] = dict(texts)
    if "event" in texts:
        values = _object("event", texts["event"])
    else:
        if "properties" in texts:
            values["properties"] = _object("properties", texts["properties"])
        if "value" in texts:
            values["value"] = _number(texts["value"])
        values = {name: None if value == "" else value for name, value in values.items()}
    if values.get("event_id") is None:
        values["event_id"] = default_id
    return parse_event(values)


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{name}: expected a JSON object, got malformed JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{name}: expected a JSON object, got {type(document).__name__}")
    return document


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"value: expected a number, got {text!r:.80}") from None
