"""SignalService: the unary methods. The streaming ones are in signal_streams."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rankd.errors import Reason, RequestError, Violation
from rankd.limits import RequestLimits
from rankd.ranking.wording import check_ids
from rankd.server import signal_codec as codec
from rankd.server.rpc import Call
from rankd.signals.store import EntityStatistics, Rejection, SignalStore, WriteBatch
from rankd.signals.write_counts import WriteCounts
from rankd.telemetry import names
from rankd.types.schema import Entity, Signal, SignalKind
from rankd.types.text import stored_ids
from rankd.v1 import signals_pb2 as pb

READ_ROWS: Final = 256
"""Rows that GetSignals reads at a time: of the most bytes that rows can have, few come at once."""


@dataclass(frozen=True, slots=True)
class Replica:
    """How this machine's copy of a shared store follows it. `lag_s`: how far behind, at most."""

    in_step: bool
    lag_s: float


ReplicaStatus = Callable[[], Replica | None]
"""None where nothing is replicated."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A batch to write. `batch`: as it was sent; `good`: without rows whose id cannot be; `positions`: where its rows
    stood (empty: where they stand)."""

    batch: WriteBatch
    good: WriteBatch
    positions: Sequence[int]
    rejected: Sequence[Rejection]


class SignalService:
    """The methods of rankd.v1.SignalService over a store."""

    def __init__(self, store: SignalStore, limits: RequestLimits, replica: ReplicaStatus | None = None) -> None:
        self.store = store
        self.limits = limits
        self.counts = WriteCounts()
        self._replica = replica

    def check(self, request: pb.WriteSignalsRequest) -> Checked:
        """RequestError at the first fault that is not a row's."""
        batch = codec.decode_batch(request, self.store.schema, self.limits)
        entity = self.store.schema.entities[batch.entity]
        good, positions, rejected = codec.split_bad_ids(batch, entity, self.limits.max_id_bytes)
        return Checked(batch, good, positions, rejected)

    async def write(self, checked: Checked) -> pb.WriteSignalsResponse:
        """Writes a batch. Rows with faulty values are rejected one by one, the others are written."""
        response = pb.WriteSignalsResponse()
        rejected, positions = list(checked.rejected), checked.positions
        if checked.good.ids:
            result = await self.store.write(checked.good)
            response.written_count = result.written_count
            response.late_count = result.late_count
            response.repeated_count = result.repeated_count
            rejected += [dataclasses.replace(r, row=positions[r.row] if positions else r.row) for r in result.rejected]
        entity = self.store.schema.entities[checked.batch.entity]
        for rejection in sorted(rejected, key=lambda r: r.row):
            path = codec.rejection_path(checked.batch, rejection, entity)
            response.rejected.add(row=rejection.row, field=path, description=rejection.description)
        self.counts.add(
            entity.name,
            written=response.written_count,
            rejected=len(rejected),
            late=response.late_count,
            repeated=response.repeated_count,
        )
        return response

    async def write_signals(self, request: pb.WriteSignalsRequest, call: Call) -> pb.WriteSignalsResponse:
        """WriteSignals."""
        _note(call, request.entity, len(request.ids))
        response = await self.write(self.check(request))
        if call.span is not None:
            call.attributes[names.ROWS_REJECTED] = len(response.rejected)
        return response

    async def get_signals(self, request: pb.GetSignalsRequest, call: Call) -> pb.GetSignalsResponse:
        """GetSignals. RequestError (LIMIT_EXCEEDED) for rows that take more than max_read_bytes together."""
        entity, ids = self._checked_ids(request, call)
        wanted = codec.check_signal_names(request.signals, entity)
        keys = stored_ids(entity.name, ids, entity.key)
        now_s = time.time()
        answer, taken = pb.GetSignalsResponse(), 0
        for start in range(0, len(ids), READ_ROWS):
            if start:
                await asyncio.sleep(0)
            end = start + READ_ROWS
            stored = await self.store.get(entity.name, keys[start:end], wanted, now_s)
            shift = len(answer.ids)
            if shift:
                moved = [
                    dataclasses.replace(c, rows=c.rows + shift, clear_rows=c.clear_rows + shift) for c in stored.columns
                ]
                stored = dataclasses.replace(stored, columns=moved)
            part = codec.encode_rows(ids[start:end], stored, entity)
            taken += part.ByteSize()
            if taken > self.limits.max_read_bytes:
                most = f"rows of at most {self.limits.max_read_bytes} bytes together"
                fitting = f"; ids[0] to ids[{start - 1}] would do, ask for the others then" if start else ""
                raise RequestError.one(Reason.LIMIT_EXCEEDED, "ids", most, f"{len(ids)} that take more{fitting}")
            _append(answer, part)
        return answer

    async def delete_signals(self, request: pb.DeleteSignalsRequest, call: Call) -> pb.DeleteSignalsResponse:
        """DeleteSignals."""
        entity, ids = self._checked_ids(request, call)
        deleted = await self.store.delete(entity.name, stored_ids(entity.name, ids, entity.key))
        self.counts.add(entity.name, deleted=deleted)
        return pb.DeleteSignalsResponse(deleted_count=deleted)

    async def forget_user(self, request: pb.ForgetUserRequest, call: Call) -> pb.ForgetUserResponse:
        """ForgetUser."""
        try:
            check_ids([request.user_id], "user_id", self.limits.max_id_bytes)
        except RequestError as error:
            one = [Violation("user_id", v.expected, v.got) for v in error.violations]
            raise RequestError(error.reason, one) from None
        deleted = await self.store.forget(request.user_id)
        for entity, count in deleted.items():
            self.counts.add(entity, deleted=count)
        return pb.ForgetUserResponse(deleted_counts=deleted)

    async def describe_schema(self, request: pb.DescribeSchemaRequest, call: Call) -> pb.DescribeSchemaResponse:
        """DescribeSchema."""
        schema, counts = self.store.schema, self.store.row_counts()
        statistics = await self.store.statistics(time.time()) if request.include_statistics else {}
        response = pb.DescribeSchemaResponse(version=schema.version)
        for entity in schema.entities.values():
            known = statistics.get(entity.name)
            described = response.entities.add(
                name=entity.name,
                row_count=counts.get(entity.name, 0),
                key=entity.key,
                used_bytes=known.used_bytes if known is not None else 0,
                fetched=entity.name in self.store.fetched,
            )
            described.signals.extend(_describe(signal, known) for signal in entity.signals.values())
        replica = self._replica() if self._replica is not None else None
        if replica is not None:
            response.replica.in_step, response.replica.lag_seconds = replica.in_step, replica.lag_s
        return response

    def _checked_ids(
        self, request: pb.GetSignalsRequest | pb.DeleteSignalsRequest, call: Call
    ) -> tuple[Entity, list[str]]:
        _note(call, request.entity, len(request.ids))
        entity = codec.find_entity(self.store.schema, request.entity)
        codec.check_row_count(len(request.ids), self.limits)
        ids = list(request.ids)
        check_ids(ids, "ids", self.limits.max_id_bytes)
        return entity, ids


def _append(answer: pb.GetSignalsResponse, part: pb.GetSignalsResponse) -> None:
    """Rows after those that are there; their positions are those in the whole answer already."""
    answer.ids.extend(part.ids)
    answer.missing_ids.extend(part.missing_ids)
    answer.written_unix_millis.extend(part.written_unix_millis)
    if not answer.columns:
        answer.columns.extend(part.columns)
        return
    for column, more in zip(answer.columns, part.columns, strict=True):
        column.MergeFrom(more)


def _describe(signal: Signal, statistics: EntityStatistics | None) -> pb.SignalDescription:
    described = pb.SignalDescription(
        name=signal.name,
        type=signal.type_name,
        ttl_seconds=signal.ttl_s,
        default_value=signal.default,
        half_life_seconds=signal.half_life_s,
        window_seconds=signal.window_s,
        bucket_seconds=signal.bucket_s,
        ratio_of=signal.ratio_of or (),
        element=signal.element.value if signal.kind is SignalKind.EMBEDDING else "",
        prior_mean=None if signal.prior is None else signal.prior.mean,
        prior_weight=None if signal.prior is None else signal.prior.weight,
    )
    if statistics is not None and signal.name in statistics.signals:
        known = statistics.signals[signal.name]
        described.statistics.filled_count = known.filled_count
        if not math.isnan(known.median_age_s):
            described.statistics.median_age_seconds = known.median_age_s
        if not math.isnan(known.greatest_age_s):
            described.statistics.greatest_age_seconds = known.greatest_age_s
    return described


def _note(call: Call, entity: str, rows: int) -> None:
    if call.span is not None:
        call.attributes[names.ENTITY] = entity[:64]
        call.attributes[names.ROWS] = rows
