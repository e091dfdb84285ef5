"""SignalService: WriteSignals, GetSignals, DeleteSignals, DescribeSchema."""

from __future__ import annotations

import time

from rankd.limits import RequestLimits
from rankd.ranking.wording import check_ids
from rankd.server import signal_codec as codec
from rankd.server.rpc import Call
from rankd.signals.store import SignalStore
from rankd.telemetry import names
from rankd.types.text import stored_ids
from rankd.v1 import signals_pb2 as pb


class SignalService:
    """The methods of rankd.v1.SignalService over a store."""

    def __init__(self, store: SignalStore, limits: RequestLimits) -> None:
        self._store = store
        self._limits = limits

    async def write_signals(self, request: pb.WriteSignalsRequest, call: Call) -> pb.WriteSignalsResponse:
        """WriteSignals. Rows with faulty values are rejected one by one, the others are written."""
        _note(call, request.entity, len(request.ids))
        batch = codec.decode_batch(request, self._store.schema, self._limits)
        entity = self._store.schema.entities[batch.entity]
        good, positions, rejected = codec.split_long_ids(batch, self._limits.max_id_bytes)
        response = pb.WriteSignalsResponse()
        if good.ids:
            result = await self._store.write(good)
            response.written_count = result.written_count
            rejected += [
                type(r)(positions[r.row] if positions else r.row, r.signal, r.description) for r in result.rejected
            ]
        for rejection in sorted(rejected, key=lambda r: r.row):
            path = codec.rejection_path(batch, rejection, entity)
            response.rejected.add(row=rejection.row, field=path, description=rejection.description)
        if call.span is not None:
            call.attributes[names.ROWS_REJECTED] = len(response.rejected)
        return response

    async def get_signals(self, request: pb.GetSignalsRequest, call: Call) -> pb.GetSignalsResponse:
        """GetSignals."""
        _note(call, request.entity, len(request.ids))
        entity = codec.find_entity(self._store.schema, request.entity)
        codec.check_row_count(len(request.ids), self._limits)
        ids = list(request.ids)
        check_ids(ids, "ids", self._limits.max_id_bytes)
        wanted = codec.check_signal_names(request.signals, entity)
        stored = await self._store.get(entity.name, stored_ids(entity.name, ids), wanted, time.time())
        return codec.encode_rows(ids, stored, entity)

    async def delete_signals(self, request: pb.DeleteSignalsRequest, call: Call) -> pb.DeleteSignalsResponse:
        """DeleteSignals."""
        _note(call, request.entity, len(request.ids))
        entity = codec.find_entity(self._store.schema, request.entity)
        codec.check_row_count(len(request.ids), self._limits)
        ids = list(request.ids)
        check_ids(ids, "ids", self._limits.max_id_bytes)
        deleted = await self._store.delete(entity.name, stored_ids(entity.name, ids))
        return pb.DeleteSignalsResponse(deleted_count=deleted)

    async def describe_schema(self, request: pb.DescribeSchemaRequest, call: Call) -> pb.DescribeSchemaResponse:
        """DescribeSchema."""
        schema, counts = self._store.schema, self._store.row_counts()
        response = pb.DescribeSchemaResponse(version=schema.version)
        for entity in schema.entities.values():
            described = response.entities.add(name=entity.name, row_count=counts.get(entity.name, 0))
            for signal in entity.signals.values():
                described.signals.add(
                    name=signal.name,
                    type=signal.type_name,
                    ttl_seconds=signal.ttl_s,
                    default_value=signal.default,
                )
        return response


def _note(call: Call, entity: str, rows: int) -> None:
    if call.span is not None:
        call.attributes[names.ENTITY] = entity[:64]
        call.attributes[names.ROWS] = rows
