"""Rows as they lie in Redis: read by id, whole entities page by page, and the layouts that they were packed under."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from redis.exceptions import ResponseError

from rankd.errors import Reason, RequestError, StoreError, UnavailableError
from rankd.signals.redis.codec import RowCodec, RowStates, Status
from rankd.signals.redis.connection import Keyed, RedisConnection
from rankd.signals.redis.keys import Keys
from rankd.signals.redis.node import Command
from rankd.signals.redis.options import RedisOptions
from rankd.types.schema import Element, Schema, Signal

_LOG = logging.getLogger(__name__)

_MOST_KEYS: Final = 1_000
"""Of one MGET."""

_REGISTER_S: Final = 30.0
_SHARDS: Final = b"/shards"
"""A field among the declarations; no entity is called so."""

_EMPTY_PAGES: Final = 50
"""Pages of a scan without a row of the entity after which it is answered all the same."""


def good(reply: Any) -> Any:
    """A reply that is no error. StoreError: Redis refused the command."""
    if isinstance(reply, ResponseError):
        raise StoreError(f"Redis refused a command: {reply}")
    return reply


class RedisRows:
    """Reads rows of a schema's entities. Belongs to one event loop."""

    def __init__(self, schema: Schema, options: RedisOptions, connection: RedisConnection) -> None:
        self.schema = schema
        self.options = options
        self.connection = connection
        self.keys = Keys(options.prefix, options.shards)
        self.codecs: dict[str, RowCodec] = {name: RowCodec.of(e) for name, e in schema.entities.items()}
        self._registered_at = -_REGISTER_S
        self._older: dict[str, dict[int, RowCodec]] = {name: {} for name in schema.entities}
        self._is_checked = False

    async def register(self) -> None:
        """Keeps the declarations that rows are packed under, before the first row is, and again and again: a Redis that
        lost everything meanwhile has lost them, too.

        What is declared there and not here (another machine is ahead, or a signal was removed) is carried along when
        rows are written, until `drop_undeclared`. StoreError: a signal is kept there as another type, or rows are in
        other buckets than here, or it is a Cluster.
        """
        now = time.monotonic()
        if now < self._registered_at + _REGISTER_S or not self.codecs:
            return
        await self._check_kind()
        for name, kept in (await self.declarations()).items():
            self.codecs[name] = self._with_kept(name, kept)
        await self._declare()
        self._registered_at = now

    async def declarations(self) -> dict[str, RowCodec]:
        """By entity, what rows in Redis may have: of entities that any were written of."""
        names = list(self.schema.entities)
        command: Command = ("HMGET", self.keys.schema, _SHARDS, *names)
        replies = await self.connection.run([(self.keys.schema, command)], self._read_s, is_repeatable=True)
        shards, *values = good(replies[0])
        if shards is not None and int(shards) != self.options.shards:
            raise StoreError(
                f"signals.redis.shards is {self.options.shards}, but rows in Redis are in {int(shards)} groups: set it "
                f"so, or signals.redis.prefix to another than {self.keys.prefix}"
            )
        try:
            return {n: RowCodec.declared(v) for n, v in zip(names, values, strict=True) if v is not None}
        except ValueError as error:
            raise StoreError(f"{self.keys.schema.decode()} in Redis is not of this rankd: {error}") from error

    def _with_kept(self, name: str, kept: RowCodec) -> RowCodec:
        declared = {signal.name: signal for signal in RowCodec.of(self.schema.entities[name]).signals}
        for signal in kept.signals:
            here = declared.get(signal.name)
            if here is not None and here.storing != signal.storing:
                raise StoreError(
                    f"signal {name}.{signal.name} is declared {_type_text(here)}, but stored values of it in Redis are "
                    f"{_type_text(signal)}; `rankd schema migrate` drops them, or give the new signal another name"
                )
        codec = RowCodec(name, [*declared.values(), *(s for s in kept.signals if s.name not in declared)])
        return self.codecs[name] if codec.fingerprint == self.codecs[name].fingerprint else codec

    async def _check_kind(self) -> None:
        """That it is no Cluster where there should be none, and keeps what it is given; once. Who may not ask is not
        told."""
        if self._is_checked:
            return
        asked: list[Keyed] = [(self.keys.schema, ("INFO", part)) for part in ("cluster", "memory")]
        cluster, memory = await self.connection.run(asked, self._read_s)
        if not self.options.cluster and isinstance(cluster, bytes) and b"cluster_enabled:1" in cluster:
            raise StoreError("signals.redis.cluster is false, but Redis is a node of a Cluster")
        if isinstance(memory, bytes) and b"maxmemory_policy:allkeys" in memory:
            _LOG.warning("Redis may evict signals when its memory is full: set its maxmemory-policy to noeviction")
        self._is_checked = True

    async def _declare(self) -> None:
        command: list[bytes | str] = ["HSET", self.keys.schema, _SHARDS, str(self.options.shards)]
        for name, codec in self.codecs.items():
            command += [_field(name, codec.fingerprint), codec.declaration, name, codec.declaration]
        good((await self.connection.run([(self.keys.schema, tuple(command))], self._read_s, is_repeatable=True))[0])

    async def drop_undeclared(self) -> None:
        """Of signals that are declared in Redis and not here, or otherwise, values are no longer read or carried along;
        they go as their rows are written. For when every machine has the new declarations."""
        self.codecs |= {name: RowCodec.of(entity) for name, entity in self.schema.entities.items()}
        await self._declare()
        self._registered_at = time.monotonic()

    def forget_registration(self) -> None:
        """Redis was away: who knows what it has."""
        self._registered_at = -_REGISTER_S

    @property
    def _read_s(self) -> float:
        return self.options.socket_timeout_s + self.options.connect_timeout_s

    async def packed(self, wanted: Mapping[str, Sequence[str]], timeout_s: float) -> dict[str, list[bytes | None]]:
        """Rows as they lie there, None where there is none, in the order of the ids; one round trip to each node."""
        commands: list[Keyed] = []
        places: list[tuple[str, list[int]]] = []
        values: dict[str, list[bytes | None]] = {}
        for entity, ids in wanted.items():
            values[entity] = [None] * len(ids)
            keys = self.keys.rows(entity, ids)
            for rows in self._together(ids):
                commands.append((keys[rows[0]], ("MGET", *(keys[i] for i in rows))))
                places.append((entity, rows))
        replies = await self.connection.run(commands, timeout_s, is_repeatable=True) if commands else []
        for (entity, rows), reply in zip(places, replies, strict=True):
            of_entity = values[entity]
            for i, value in zip(rows, good(reply), strict=True):
                of_entity[i] = value
        return values

    def _together(self, ids: Sequence[str]) -> list[list[int]]:
        """Positions of ids that one MGET may ask for: of one bucket in a Cluster."""
        groups: dict[int, list[int]] = {}
        if self.connection.is_cluster:
            for i, bucket in enumerate(self.keys.buckets(ids)):
                groups.setdefault(bucket, []).append(i)
        elif ids:
            groups[0] = list(range(len(ids)))
        return [rows[at : at + _MOST_KEYS] for rows in groups.values() for at in range(0, len(rows), _MOST_KEYS)]

    async def fetch(self, wanted: Mapping[str, Sequence[str]], timeout_s: float) -> dict[str, RowStates]:
        """Rows by entity, in the order of the ids, each of them of the id asked for. UnavailableError if Redis does not
        answer in time, or with rows of other ids."""
        deadline = time.monotonic() + timeout_s
        values = await self.packed(wanted, timeout_s)
        rows = {}
        for entity, ids in wanted.items():
            states = await self.unpacked(entity, values[entity], ids, max(0.0, deadline - time.monotonic()))
            if np.any(states.status == Status.WRONG_ID):
                raise UnavailableError("Redis answered with rows of other ids: they were not used")
            rows[entity] = states
        return rows

    async def unpacked(
        self,
        entity: str,
        values: Sequence[bytes | None],
        ids: Sequence[str] | None,
        timeout_s: float,
        codec: RowCodec | None = None,
    ) -> RowStates:
        """Rows of packed values; damaged ones are reported and as good as missing. `codec`: what they are to be of."""
        codec, older = codec or self.codecs[entity], self._older[entity]
        states = codec.unpack(values, ids, older)
        if np.any(states.status == Status.OTHER_LAYOUT):
            if await self._learn_layouts(entity, codec.unknown(values, older), timeout_s):
                states = codec.unpack(values, ids, older)
            unknown = np.count_nonzero(states.status == Status.OTHER_LAYOUT)
            if unknown:
                _LOG.error(
                    "%d rows of %s in Redis are of a layout that is not in %s", unknown, entity, self.keys.schema
                )
        damaged = np.flatnonzero(states.status == Status.DAMAGED)
        if len(damaged):
            _LOG.error("%d rows of %s in Redis are damaged, such as %r", len(damaged), entity, states.ids[damaged[0]])
        return states

    def layouts(self, entity: str) -> Mapping[int, RowCodec]:
        """Layouts that were met beside the one declared, by fingerprint; it grows."""
        return self._older[entity]

    async def learn(self, entity: str, values: Sequence[bytes | None]) -> None:
        """The layouts of packed rows, as far as they are kept. UnavailableError."""
        unknown = self.codecs[entity].unknown(values, self._older[entity])
        await self._learn_layouts(entity, unknown, self._read_s)

    async def _learn_layouts(self, entity: str, fingerprints: set[int], timeout_s: float) -> bool:
        fields = [_field(entity, print_) for print_ in sorted(fingerprints)]
        if not fields:
            return False
        commands: list[Keyed] = [(self.keys.schema, ("HMGET", self.keys.schema, *fields))]
        declarations = good((await self.connection.run(commands, timeout_s, is_repeatable=True))[0])
        learned = False
        for print_, declaration in zip(sorted(fingerprints), declarations, strict=True):
            try:
                codec = RowCodec.declared(declaration or "")
            except ValueError:
                continue
            if codec.fingerprint == print_ and codec.entity == entity:
                self._older[entity][print_] = codec
                learned = True
        return learned

    async def scan(
        self, entity: str, cursor: str, most: int, timeout_s: float, id_prefix: str = ""
    ) -> tuple[RowStates, str]:
        """About `most` rows and tombstones from a cursor on, and where to go on; "": the end. Every row that is there
        all the time comes, at least once, unless slots of a Cluster move meanwhile. RequestError for a bad cursor."""
        ids, following = await self.scan_ids(entity, cursor, most, timeout_s, id_prefix)
        values = (await self.packed({entity: ids}, timeout_s))[entity]
        return await self.unpacked(entity, values, ids, timeout_s), following

    async def scan_ids(
        self, entity: str, cursor: str, most: int, timeout_s: float, id_prefix: str = ""
    ) -> tuple[list[str], str]:
        """The same of ids alone."""
        deadline = time.monotonic() + timeout_s
        await self.connection.ready(timeout_s)
        nodes = sorted(self.connection.nodes, key=lambda node: node.name)
        print_ = zlib.crc32(" ".join(node.name for node in nodes).encode())
        which, place = _place(cursor, print_)
        pattern = self.keys.row_pattern(entity, id_prefix)
        ids: dict[str, None] = {}
        for _ in range(_EMPTY_PAGES):
            left = max(0.0, deadline - time.monotonic())
            command = ("SCAN", place, "MATCH", pattern, "COUNT", max(10, most - len(ids)), "TYPE", "string")
            place, keys = good((await nodes[which].exchange([command], left))[0])
            place = int(place)
            ids |= dict.fromkeys(id_ for key in keys if (id_ := self.keys.id_of(entity, key)) is not None)
            if not place:
                which += 1
                if which == len(nodes):
                    return list(ids), ""
            if len(ids) * 2 >= most:
                break
        return list(ids), f"{print_:x}.{which:x}.{place:x}"


def _type_text(signal: Signal) -> str:
    more = [f"half_life {signal.half_life_s:g} s"] if signal.half_life_s is not None else []
    more += [f"bucket {signal.bucket_s:g} s"] if signal.bucket_s is not None else []
    more += [f"element {signal.element.value}"] if signal.element is not Element.F32 else []
    return ", ".join([signal.type_name, *more])


def _field(entity: str, fingerprint: int) -> str:
    return f"{entity}/{fingerprint:08x}"


def _place(cursor: str, print_: int) -> tuple[int, int]:
    """Node and place; of other nodes than there are now: the beginning."""
    if not cursor:
        return 0, 0
    try:
        of, which, place = (int(part, 16) for part in cursor.split("."))
        if min(of, which, place) < 0 or place >= 2**64 or (of == print_ and which > 16_384):
            raise ValueError
    except ValueError:
        raise RequestError.one(
            Reason.BAD_PAGE_TOKEN, "cursor", "a cursor that a scan gave", f'"{cursor[:64]}"'
        ) from None
    return (which, place) if of == print_ else (0, 0)
