"""Every call of the client, once, without I/O.

A method of `Api` is a generator: it yields the `Call`s to make, is sent their responses (or
thrown their errors), and returns the answer. `Client` and `AsyncClient` differ only in how
they drive it. Here are the signatures, the defaults and the documentation of both.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from grpc_health.v1 import health_pb2

from rankd.client import requests
from rankd.client.columns import ColumnData, parse_type, row_values, signal_column
from rankd.client.errors import InvalidRequestError, RankdRpcError, ServerUnavailableError, from_status
from rankd.client.requests import Priority, RankList, SurfaceName, Time, ViewName
from rankd.client.signals import SchemaDescription, StoredSignals, WriteResult
from rankd.client.values import Numbers, strings
from rankd.client.views import Call, RankedList, ScoredList
from rankd.errors import Reason, RequestError
from rankd.types.schema import Signal
from rankd.v1 import ranking_pb2, signals_pb2
from rankd.v1.ranking_pb2 import Query, RankRequest, ScoreRequest, User

R = TypeVar("R")
Flow: TypeAlias = Generator[Call[Any], Any, R]
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
BatchResult: TypeAlias = RankedList | RankdRpcError

_SCHEMA_MAY_BE_OLD = frozenset({Reason.UNKNOWN_NAME, Reason.WRONG_TYPE})


class Api:
    """`timeout_s` holds for Rank and Score, `batch_timeout_s` for all else; each call can have its own, and its
    own `priority`."""

    def __init__(self, timeout_s: float, batch_timeout_s: float, priority: Priority = "live") -> None:
        self._timeout_s = timeout_s
        self._batch_timeout_s = batch_timeout_s
        self._priority = requests.checked_priority(priority)
        self._description: SchemaDescription | None = None

    def _metadata(self, metadata: Metadata, priority: Priority | None) -> tuple[tuple[str, str | bytes], ...]:
        wanted = self._priority if priority is None else requests.checked_priority(priority)
        # "live" is what a server takes a call for that says nothing.
        return tuple(metadata) if wanted == "live" else (*metadata, (requests.PRIORITY_KEY, wanted))

    def rank(
        self,
        profile: str,
        ids: Iterable[str],
        *,
        base_scores: Numbers | None = None,
        columns: Mapping[str, Numbers] | None = None,
        query: str | Query | None = None,
        user: str | User | None = None,
        context: Mapping[str, Any] | None = None,
        surface: SurfaceName | None = None,
        labels: Mapping[str, str] | None = None,
        as_of: Time | None = None,
        page_size: int | None = None,
        page_token: str = "",
        view: ViewName = "basic",
        timings: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[RankedList]:
        """Orders `ids` by a profile.

        `base_scores` and each of `columns`: one number per id, a list or a NumPy array; None and NaN
        are missing. `user`: a user id, or a User. `context`: bool, number, str (a category; `Text`
        for text), datetime, set of str, or vector of numbers. `view` "scores" or "features" brings
        more back. `as_of`: an aware datetime or milliseconds since 1970. `priority`: "batch" is
        refused first when the server has too much to do.

        Raises RankdRpcError, or RequestError for a value that cannot be sent.
        """
        request = requests.rank_request(
            profile,
            requests.candidates(ids, base_scores, columns),
            query=query,
            user=user,
            context=context,
            surface=surface,
            labels=labels,
            as_of=as_of,
            page_size=page_size,
            page_token=page_token,
            view=view,
            timings=timings,
            request_id=request_id,
        )
        return (yield from self.rank_message(request, timeout_s=timeout_s, priority=priority, metadata=metadata))

    def rank_message(
        self,
        request: RankRequest,
        *,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[RankedList]:
        """Sends a RankRequest as it is."""
        return (
            yield from _rank(Call("Rank", request, timeout_s or self._timeout_s, self._metadata(metadata, priority)))
        )

    def next_page(self, page: RankedList) -> Flow[RankedList]:
        """The page after `page`: the same request with its next_page_token. ValueError after the last."""
        if not page.next_page_token:
            raise ValueError("this is the last page")
        request = RankRequest()
        request.CopyFrom(page.request)
        request.page_token = page.next_page_token
        return (yield from _rank(replace(page.call, request=request)))

    def batch_rank(
        self,
        profile: str,
        lists: Iterable[RankList | Iterable[str]],
        *,
        query: str | Query | None = None,
        user: str | User | None = None,
        context: Mapping[str, Any] | None = None,
        surface: SurfaceName | None = None,
        labels: Mapping[str, str] | None = None,
        as_of: Time | None = None,
        page_size: int | None = None,
        view: ViewName = "basic",
        timings: bool = False,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[list[BatchResult]]:
        """Orders many lists that share all but their candidates. A list is a RankList or just ids.

        Gives one answer per list, in order: a RankedList, or the RankdRpcError that this list failed
        with (not raised). Raises only if the whole call failed.
        """
        common = requests.rank_request(
            profile,
            None,
            query=query,
            user=user,
            context=context,
            surface=surface,
            labels=labels,
            as_of=as_of,
            page_size=page_size,
            view=view,
            timings=timings,
        )
        request = requests.batch_request(common, lists)
        call = Call("BatchRank", request, timeout_s or self._batch_timeout_s, self._metadata(metadata, priority))
        response: ranking_pb2.BatchRankResponse = yield call
        return [_batch_result(call, position, result) for position, result in enumerate(response.results)]

    def score(
        self,
        profile: str,
        ids: Iterable[str],
        *,
        base_scores: Numbers | None = None,
        columns: Mapping[str, Numbers] | None = None,
        query: str | Query | None = None,
        user: str | User | None = None,
        context: Mapping[str, Any] | None = None,
        surface: SurfaceName | None = None,
        labels: Mapping[str, str] | None = None,
        as_of: Time | None = None,
        raw: bool = False,
        features: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[ScoredList]:
        """The model's outputs for `ids` in the order given. Arguments as in rank.

        `raw`: before the objective's transform. `features`: return every feature, too.
        """
        request = requests.score_request(
            profile,
            requests.candidates(ids, base_scores, columns),
            query=query,
            user=user,
            context=context,
            surface=surface,
            labels=labels,
            as_of=as_of,
            raw=raw,
            features=features,
            request_id=request_id,
        )
        return (yield from self.score_message(request, timeout_s=timeout_s, priority=priority, metadata=metadata))

    def score_message(
        self,
        request: ScoreRequest,
        *,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[ScoredList]:
        """Sends a ScoreRequest as it is."""
        response = yield Call("Score", request, timeout_s or self._timeout_s, self._metadata(metadata, priority))
        return ScoredList(response)

    def write_signals(
        self,
        entity: str,
        ids: Iterable[str],
        columns: Mapping[str, Iterable[Any]],
        *,
        types: Mapping[str, str] | None = None,
        batch_rows: int = 2_000,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[WriteResult]:
        """Writes one value per id and signal: creates rows, updates only the signals named.

        Values are of the signal's type; None (or NaN, NaT) clears, KEEP leaves as it is. Types come
        from the server's schema, asked for once; `types` ({"price": "f32"}) spares that. More than
        `batch_rows` ids go in several calls, one after the other, each within `timeout_s`; if one
        fails, those before it are written, and writing all again does no harm.

        Rows the server rejects are in the result; all others are written.
        """
        texts = strings("ids", ids)
        rows = {name: row_values(name, data, len(texts)) for name, data in columns.items()}
        if types is not None:
            signals: Mapping[str, Signal] = {name: _explicit_type(name, text) for name, text in types.items()}
            return (yield from self._write(entity, texts, rows, signals, batch_rows, timeout_s, priority, metadata))
        cached = self._description
        while True:
            description = self._description or (yield from self.describe_schema(priority=priority, metadata=metadata))
            try:
                signals = _entity_signals(description, entity)
                return (yield from self._write(entity, texts, rows, signals, batch_rows, timeout_s, priority, metadata))
            except (RequestError, InvalidRequestError) as error:
                # The schema may have changed since it was asked for: ask again, once.
                if cached is None or error.reason not in _SCHEMA_MAY_BE_OLD:
                    raise
                if (yield from self.describe_schema(priority=priority, metadata=metadata)).version == cached.version:
                    raise
                cached = None

    def _write(
        self,
        entity: str,
        ids: list[str],
        columns: Mapping[str, ColumnData],
        signals: Mapping[str, Signal],
        batch_rows: int,
        timeout_s: float | None,
        priority: Priority | None,
        metadata: Metadata,
    ) -> Flow[WriteResult]:
        for name in columns:
            if name not in signals:
                known = ", ".join(sorted(signals))
                raise RequestError.one(Reason.UNKNOWN_NAME, f'columns["{name}"]', f"one of {known}", repr(name))
        result = WriteResult(0)
        for start in range(0, len(ids), batch_rows):
            batch = ids[start : start + batch_rows]
            made = (
                signal_column(signals[name], data[start : start + batch_rows], start) for name, data in columns.items()
            )
            request = signals_pb2.WriteSignalsRequest(entity=entity, ids=batch, columns=[c for c in made if c])
            response = yield from self.write_message(request, timeout_s=timeout_s, priority=priority, metadata=metadata)
            result += WriteResult.of(response, start)
        return result

    def write_message(
        self,
        request: signals_pb2.WriteSignalsRequest,
        *,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[signals_pb2.WriteSignalsResponse]:
        """Sends a WriteSignalsRequest as it is."""
        response: signals_pb2.WriteSignalsResponse = yield Call(
            "WriteSignals", request, timeout_s or self._batch_timeout_s, self._metadata(metadata, priority)
        )
        return response

    def get_signals(
        self,
        entity: str,
        ids: Iterable[str],
        signals: Iterable[str] = (),
        *,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[StoredSignals]:
        """Reads rows back as written; no `signals`: all of the entity."""
        request = signals_pb2.GetSignalsRequest(
            entity=entity, ids=strings("ids", ids), signals=strings("signals", signals)
        )
        response = yield Call(
            "GetSignals", request, timeout_s or self._batch_timeout_s, self._metadata(metadata, priority)
        )
        return StoredSignals(response)

    def delete_signals(
        self,
        entity: str,
        ids: Iterable[str],
        *,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[int]:
        """Deletes whole rows; gives how many there were. (A retried call may count fewer: they were gone.)"""
        request = signals_pb2.DeleteSignalsRequest(entity=entity, ids=strings("ids", ids))
        response: signals_pb2.DeleteSignalsResponse = yield Call(
            "DeleteSignals", request, timeout_s or self._batch_timeout_s, self._metadata(metadata, priority)
        )
        return response.deleted_count

    def describe_schema(
        self, *, timeout_s: float | None = None, priority: Priority | None = None, metadata: Metadata = ()
    ) -> Flow[SchemaDescription]:
        """The server's schema and row counts, asked anew; write_signals uses the last answer."""
        request = signals_pb2.DescribeSchemaRequest()
        response = yield Call(
            "DescribeSchema", request, timeout_s or self._batch_timeout_s, self._metadata(metadata, priority)
        )
        self._description = SchemaDescription.of(response)
        return self._description

    def health(
        self,
        service: str = "",
        *,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[bool]:
        """Whether a server is reached and says SERVING: the first answer of its Watch, which rankd
        serves beside its own services. (Check is on the health port.)"""
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            response = yield Call("Watch", request, timeout_s or self._timeout_s, self._metadata(metadata, priority))
        except ServerUnavailableError:  # also while every address says NOT_SERVING
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def _rank(call: Call[RankRequest]) -> Flow[RankedList]:
    response = yield call
    return RankedList(response, call)


def _batch_result(
    call: Call[ranking_pb2.BatchRankRequest], position: int, result: ranking_pb2.BatchRankResponse.Result
) -> BatchResult:
    one = call.request.lists[position]
    if result.WhichOneof("result") == "error":
        return from_status(result.error, one.request_id)
    request = RankRequest()
    request.CopyFrom(call.request.common)
    request.candidates.CopyFrom(one.candidates)
    request.request_id, request.page_token = one.request_id, one.page_token
    if one.HasField("page_size"):
        request.page_size = one.page_size
    return RankedList(result.response, Call("Rank", request, call.timeout_s, call.metadata))


def _explicit_type(name: str, type_name: str) -> Signal:
    try:
        return parse_type(name, type_name)
    except ValueError:
        expected = 'a type such as "f32" or "embedding[16]"'
        raise RequestError.one(Reason.WRONG_TYPE, f'types["{name}"]', expected, repr(type_name)) from None


def _entity_signals(description: SchemaDescription, entity: str) -> Mapping[str, Signal]:
    entities = description.schema.entities
    if entity not in entities:
        raise RequestError.one(Reason.UNKNOWN_NAME, "entity", f"one of {', '.join(sorted(entities))}", repr(entity))
    return entities[entity].signals
