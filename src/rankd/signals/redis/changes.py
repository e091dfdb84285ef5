"""The records of change of an entity's buckets: where they end, and what comes after a place.

A record is a row as it became, packed: live, or the tombstone of a deletion. Of one row they are in the order of its
versions. What is trimmed leaves a gap.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rankd.signals.redis.codec import RowStates
from rankd.signals.redis.connection import Keyed
from rankd.signals.redis.node import Command
from rankd.signals.redis.rows import RedisRows, good

BEGINNING: Final = b"0-0"
"""The place before the first record."""

_POLL_S: Final = 0.02
MOST_RECORDS: Final = 1_000
"""Of a bucket, in one answer."""
_LATE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """Records of one bucket: `rows` in the order of their writing; `records`: their ids. `position`: where to go on.
    `is_own` bool (n,): written by this process. `is_gap`: records after the position asked for were trimmed: the
    bucket's rows must be read anew; `rows` is empty then and `position` the end of the log. `is_lost`: a gap because
    Redis no longer has what it had: the log is gone, or ends before the position asked for."""

    entity: str
    bucket: int
    position: bytes
    rows: RowStates
    records: Sequence[bytes]
    is_own: NDArray[np.bool_]
    is_gap: bool = False
    is_lost: bool = False


Place = tuple[str, int]
"""An entity and a bucket of it."""


class ChangeLog:
    """Reads records of change. `writer`: this process's name in them."""

    def __init__(self, at: RedisRows, writer: bytes) -> None:
        self._at = at
        self._writer = writer

    async def ends(self, entity: str) -> dict[int, bytes]:
        """By bucket, the id of the last record that was ever written; BEGINNING: none."""
        keys = [self._at.keys.log(entity, bucket) for bucket in range(self._at.options.shards)]
        info = await self._info(keys)
        return {bucket: BEGINNING if one is None else one["last"] for bucket, one in enumerate(info)}

    async def _info(self, keys: Sequence[bytes]) -> list[dict[str, bytes] | None]:
        """Of streams: `last`: the id of the last record ever, `first`: of the first that is there."""
        commands: list[Keyed] = [(key, ("XINFO", "STREAM", key)) for key in keys]
        replies = await self._at.connection.run(commands, self._at.options.scan_timeout_s, is_repeatable=True)
        info: list[dict[str, bytes] | None] = []
        for reply in replies:
            if isinstance(reply, Exception) and "no such key" in str(reply):
                info.append(None)
                continue
            pairs = good(reply)
            fields = pairs if isinstance(pairs, dict) else dict(zip(pairs[::2], pairs[1::2], strict=True))
            first = fields[b"first-entry"]
            last = fields[b"last-generated-id"]
            info.append({"last": last, "first": first[0] if first else last})
        return info

    async def read(self, positions: Mapping[Place, bytes], wait_s: float) -> list[Change]:
        """Records after positions: as soon as there are some, else none after a while. A position that is older than
        what is left of its log, or of a log that was lost, is a gap. UnavailableError."""
        places = list(positions)
        keys = [self._at.keys.log(*place) for place in places]
        by_key = dict(zip(keys, places, strict=True))
        if self._at.connection.is_cluster:
            found = await self._poll(keys, positions, by_key, wait_s)
        else:
            found = await self._wait(keys, [positions[place] for place in places], wait_s)
        changes = []
        for key, records in found.items():
            entity, bucket = by_key[key]
            changes.append(await self._change(entity, bucket, records))
        return changes

    async def gaps(self, positions: Mapping[Place, bytes]) -> list[Change]:
        """Which positions can no longer be gone on from. To be asked after a loss of the connection, and, as records
        are trimmed, again and again where there are many."""
        places = list(positions)
        changes = []
        for place, info in zip(places, await self._info([self._at.keys.log(*p) for p in places]), strict=True):
            position = positions[place]
            at, end = _number(position), BEGINNING if info is None else info["last"]
            is_lost = at > _number(end)
            # Of a log that is shorter than it may be, nothing was trimmed.
            if is_lost or (info is not None and at < _number(info["first"]) and await self._is_trimmed(place, at)):
                rows = self._at.codecs[place[0]].blank([])
                changes.append(Change(*place, end, rows, (), np.zeros(0, np.bool_), True, is_lost))
        return changes

    async def _is_trimmed(self, place: Place, at: tuple[int, int]) -> bool:
        """Whether records after a place that is before the first are gone: more were written than are there."""
        key = self._at.keys.log(*place)
        commands: list[Keyed] = [(key, ("XLEN", key))]
        reply = await self._at.connection.run(commands, self._at.options.scan_timeout_s, is_repeatable=True)
        return int(good(reply[0])) >= self._at.options.stream_length or at != (0, 0)

    async def _wait(self, keys: Sequence[bytes], after: Sequence[bytes], wait_s: float) -> dict[bytes, Any]:
        """One server: it tells when there is something."""
        block_ms = max(1, round(wait_s * 1000))
        command: Command = ("XREAD", "COUNT", MOST_RECORDS, "BLOCK", block_ms, "STREAMS", *keys, *after)
        reply = await self._at.connection.run([(keys[0], command)], wait_s + _LATE_S)
        return _by_key(good(reply[0]))

    async def _poll(
        self, keys: Sequence[bytes], positions: Mapping[Place, bytes], by_key: Mapping[bytes, Place], wait_s: float
    ) -> dict[bytes, Any]:
        """A Cluster: one XREAD cannot be of several slots, and one that waits keeps a connection to itself."""
        until = time.monotonic() + wait_s
        commands: list[Keyed] = [
            (key, ("XREAD", "COUNT", MOST_RECORDS, "STREAMS", key, positions[by_key[key]])) for key in keys
        ]
        while True:
            replies = await self._at.connection.run(commands, _LATE_S)
            found: dict[bytes, Any] = {}
            for reply in replies:
                found |= _by_key(good(reply))
            if found or time.monotonic() >= until:
                return found
            await asyncio.sleep(_POLL_S)

    async def _change(self, entity: str, bucket: int, records: Sequence[tuple[bytes, Sequence[bytes]]]) -> Change:
        fields = [dict(zip(given[::2], given[1::2], strict=True)) for _, given in records]
        values = [given.get(b"d") for given in fields]
        rows = await self._at.unpacked(entity, values, None, self._at.options.scan_timeout_s)
        is_own = np.array([given.get(b"w") == self._writer for given in fields], np.bool_)
        return Change(entity, bucket, records[-1][0], rows, [id_ for id_, _ in records], is_own)


def _by_key(reply: Any) -> dict[bytes, Any]:
    """What XREAD gives: a map in RESP3, pairs in RESP2, nothing at all."""
    return dict(reply or {})


def _number(id_: bytes) -> tuple[int, int]:
    ms, _, sequence = id_.partition(b"-")
    return int(ms), int(sequence or 0)
