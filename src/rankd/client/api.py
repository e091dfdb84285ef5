"""Every call of the client, once, without I/O.

A method of `Api` is a generator: it yields the `Call`s to make, is sent their responses (or
thrown their errors), and returns the answer. `Client` and `AsyncClient` differ only in how
they drive it. Here are the signatures, the defaults and the documentation of both.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from grpc_health.v1 import health_pb2

from rankd.client import requests
from rankd.client.columns import parse_type
from rankd.client.errors import InvalidRequestError, RankdRpcError, ServerUnavailableError, from_status
from rankd.client.events import CollectResult, EventData, event_message
from rankd.client.requests import Priority, RankList, SurfaceName, Time, ViewName
from rankd.client.signals import SchemaDescription, StoredSignals, WriteResult
from rankd.client.values import Numbers, strings
from rankd.client.views import Call, RankedList, ScoredList
from rankd.client.writes import OperationName, Rows, StreamBatch, Times
from rankd.errors import Reason, RequestError
from rankd.types.schema import Signal
from rankd.v1 import feedback_pb2, ranking_pb2, signals_pb2
from rankd.v1.ranking_pb2 import Query, RankRequest, ScoreRequest, User
from rankd.v1.signals_pb2 import StreamSignalsRequest

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

    def metadata(self, metadata: Metadata, priority: Priority | None) -> tuple[tuple[str, str | bytes], ...]:
        """What is sent with a call."""
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
            yield from _rank(Call("Rank", request, timeout_s or self._timeout_s, self.metadata(metadata, priority)))
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
        call = Call("BatchRank", request, timeout_s or self._batch_timeout_s, self.metadata(metadata, priority))
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
        response = yield Call("Score", request, timeout_s or self._timeout_s, self.metadata(metadata, priority))
        return ScoredList(response)

    def write_signals(
        self,
        entity: str,
        ids: Iterable[str],
        columns: Mapping[str, Iterable[Any]],
        *,
        times: Times | None = None,
        operations: Mapping[str, OperationName] | None = None,
        write_id: str = "",
        event_ids: Iterable[str] | None = None,
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

        `times`: when the rows were so (default: now); a value does not replace one of a later time.
        `operations`: {"clicks": "add"} adds to counters and maps, and a member to lists. `write_id`: the rows are
        written once, however often they are sent within a day (the same rows, and `batch_rows`); `event_ids`: each row
        is.

        Rows the server rejects are in the result; all others are written.
        """
        rows = Rows.of(entity, ids, columns, times, operations, write_id, event_ids)
        call = _Options(timeout_s or self._batch_timeout_s, self.metadata(metadata, priority))
        cached = self._description
        while True:
            signals = yield from self._signals(entity, types, call)
            try:
                return (yield from self._write(rows, signals, batch_rows, call))
            except (RequestError, InvalidRequestError) as error:
                # The schema may have changed since it was asked for: ask again, once.
                if types is not None or cached is None or error.reason not in _SCHEMA_MAY_BE_OLD:
                    raise
                if (yield from self._describe(False, call)).version == cached.version:
                    raise
                cached = None

    def _signals(self, entity: str, types: Mapping[str, str] | None, call: _Options) -> Flow[Mapping[str, Signal]]:
        """What is known of the entity's signals: what the caller says, or else what the server said last."""
        if types is not None:
            return {name: _explicit_type(name, text) for name, text in types.items()}
        description = self._description
        if description is None or entity not in description.schema.entities:
            description = yield from self._describe(False, call)
        return _entity_signals(description, entity)

    def _write(self, rows: Rows, signals: Mapping[str, Signal], batch_rows: int, call: _Options) -> Flow[WriteResult]:
        result = WriteResult(0)
        for start in range(0, len(rows.ids), batch_rows):
            request = rows.message(signals, start, start + batch_rows)
            response: signals_pb2.WriteSignalsResponse = yield call.of("WriteSignals", request)
            result += WriteResult.of(response, start)
        return result

    def stream_request(self, batch: StreamBatch | StreamSignalsRequest) -> Flow[StreamSignalsRequest]:
        """A batch of `stream` as it is sent. RequestError for one that cannot be."""
        if isinstance(batch, StreamSignalsRequest):
            return batch
        rows = batch.rows()
        signals = yield from self._signals(batch.entity, batch.types, _Options(self._batch_timeout_s, ()))
        return StreamSignalsRequest(batch=rows.message(signals, 0, len(rows.ids)), cursor=batch.cursor)

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
            "WriteSignals", request, timeout_s or self._batch_timeout_s, self.metadata(metadata, priority)
        )
        return response

    def collect(
        self,
        events: Iterable[EventData],
        *,
        batch_events: int = 1_000,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[CollectResult]:
        """Reports what people did: updates the signals that the schema derives from events.

        Each event has an id of its own, by which it counts once, however often it is sent: after an error, send all
        again. More than `batch_events` go in several calls, one after the other, each within `timeout_s`. Events that
        the server refuses are in the result; all others are taken.
        """
        messages = [event_message(f"events[{i}]", event) for i, event in enumerate(events)]
        result = CollectResult(0)
        for start in range(0, len(messages), batch_events):
            request = feedback_pb2.CollectRequest(events=messages[start : start + batch_events])
            response = yield Call(
                "Collect", request, timeout_s or self._batch_timeout_s, self.metadata(metadata, priority)
            )
            result += CollectResult.of(response, start)
        return result

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
            "GetSignals", request, timeout_s or self._batch_timeout_s, self.metadata(metadata, priority)
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
            "DeleteSignals", request, timeout_s or self._batch_timeout_s, self.metadata(metadata, priority)
        )
        return response.deleted_count

    def forget_user(
        self,
        user_id: str,
        *,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[dict[str, int]]:
        """Deletes everything kept under a user's id; gives how many rows there were, by entity. (A retried call may
        count fewer.)"""
        request = signals_pb2.ForgetUserRequest(user_id=strings("user_id", [user_id])[0])
        response: signals_pb2.ForgetUserResponse = yield Call(
            "ForgetUser", request, timeout_s or self._batch_timeout_s, self.metadata(metadata, priority)
        )
        return dict(response.deleted_counts)

    def describe_schema(
        self,
        *,
        statistics: bool = False,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Flow[SchemaDescription]:
        """The server's schema and row counts, asked anew; write_signals uses the last answer.

        `statistics`: how well signals are filled, how old values are, bytes; the server takes longer."""
        call = _Options(timeout_s or self._batch_timeout_s, self.metadata(metadata, priority))
        return (yield from self._describe(statistics, call))

    def _describe(self, statistics: bool, call: _Options) -> Flow[SchemaDescription]:
        request = signals_pb2.DescribeSchemaRequest(include_statistics=statistics)
        self._description = SchemaDescription.of((yield call.of("DescribeSchema", request)))
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
            response = yield Call("Watch", request, timeout_s or self._timeout_s, self.metadata(metadata, priority))
        except ServerUnavailableError:  # also while every address says NOT_SERVING
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


@dataclass(frozen=True, slots=True)
class _Options:
    """What all calls of one method share."""

    timeout_s: float
    metadata: tuple[tuple[str, str | bytes], ...]

    def of(self, method: str, request: Any) -> Call[Any]:
        return Call(method, request, self.timeout_s, self.metadata)


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
