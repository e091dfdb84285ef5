"""Names of keys in Redis.

    rk:{user.3}:ID     a row, packed, or the tombstone of one
    rk:{user.3}log     changes of the bucket's rows, a stream: an entry per row
    rk:{user.3}seen    write ids and event ids that were applied, a sorted set by time
    rk:{user.3}count   live rows of the bucket
    rk:schema          a hash: the declarations under which rows were packed

A bucket is CRC-32 (zlib) of the id modulo the number of shards. What stands between braces decides the slot of a
Cluster (Redis Cluster specification, "Hash tags"), so that a bucket is on one node, and a script can change all of it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

from redis.crc import key_slot

_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class Keys:
    """Names under a prefix. ValueError for a prefix of other characters than letters, digits and "_.:-"."""

    def __init__(self, prefix: str, shards: int) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(f'expected a prefix of 1 to 64 letters, digits and "_.:-", got "{prefix}"')
        if not 1 <= shards <= 16_384:
            raise ValueError(f"expected 1 to 16384 shards, got {shards}")
        self.prefix = prefix
        self.shards = shards
        self.schema = f"{prefix}:schema".encode()
        self._heads: dict[str, list[bytes]] = {}

    def _head(self, entity: str) -> list[bytes]:
        heads = self._heads.get(entity)
        if heads is None:
            heads = [f"{self.prefix}:{{{entity}.{bucket}}}".encode() for bucket in range(self.shards)]
            self._heads[entity] = heads
        return heads

    def bucket(self, id_: str) -> int:
        """An id's bucket."""
        return zlib.crc32(id_.encode()) % self.shards

    def buckets(self, ids: Sequence[str]) -> list[int]:
        """The buckets of ids."""
        crc32, shards = zlib.crc32, self.shards
        return [crc32(id_.encode()) % shards for id_ in ids]

    def row(self, entity: str, id_: str) -> bytes:
        """The key of a row."""
        return self.rows(entity, (id_,))[0]

    def rows(self, entity: str, ids: Sequence[str]) -> list[bytes]:
        """The keys of rows."""
        heads, crc32, shards = self._head(entity), zlib.crc32, self.shards
        keys = []
        for id_ in ids:
            raw = id_.encode()
            keys.append(b"%b:%b" % (heads[crc32(raw) % shards], raw))
        return keys

    def log(self, entity: str, bucket: int) -> bytes:
        """The stream of a bucket's changes."""
        return self._head(entity)[bucket] + b"log"

    def seen(self, entity: str, bucket: int) -> bytes:
        """What was applied to a bucket."""
        return self._head(entity)[bucket] + b"seen"

    def count(self, entity: str, bucket: int) -> bytes:
        """How many live rows a bucket has."""
        return self._head(entity)[bucket] + b"count"

    def slot(self, entity: str, bucket: int) -> int:
        """The slot of a Cluster that a bucket is in."""
        return key_slot(self._head(entity)[bucket])

    def row_pattern(self, entity: str, id_prefix: str = "") -> bytes:
        """What keys of rows look like to SCAN; they may be of other buckets than there are (`id_of` tells)."""
        return f"{_escaped(self.prefix)}:{{{_escaped(entity)}.*}}:{_escaped(id_prefix)}*".encode()

    def id_of(self, entity: str, key: bytes) -> str | None:
        """The id of a row's key; None: it is no key of a row of this entity."""
        head, found, raw = key.partition(b"}:")
        try:
            id_ = raw.decode()
        except UnicodeDecodeError:
            return None
        return id_ if found and head + b"}" == self._head(entity)[self.bucket(id_)] else None


def _escaped(text: str) -> str:
    """As SCAN's patterns take it literally."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", text)
