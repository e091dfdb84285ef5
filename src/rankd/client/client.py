"""Client and AsyncClient: they open channels and drive the generators of `rankd.client.api`."""

from __future__ import annotations

import abc
import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc
from grpc_health.v1.health_pb2_grpc import HealthStub

from rankd.client import async_streams, blocking_streams
from rankd.client.api import Api, Flow, Metadata
from rankd.client.attempts import Attempts
from rankd.client.connections import Connection, Connections
from rankd.client.errors import RankdRpcError
from rankd.client.options import CONNECTIONS, ChannelOptions, channel_options
from rankd.client.requests import Priority
from rankd.client.retries import Retries
from rankd.client.signals import Acknowledged, ScannedPage
from rankd.client.streaming import PATIENCE_S
from rankd.client.values import strings
from rankd.client.views import Call, RankedList
from rankd.client.writes import StreamBatch
from rankd.v1.feedback_pb2_grpc import FeedbackServiceStub
from rankd.v1.ranking_pb2_grpc import RankingServiceStub
from rankd.v1.signals_pb2 import ScanSignalsRequest, StreamSignalsRequest
from rankd.v1.signals_pb2_grpc import SignalServiceStub

P = ParamSpec("P")
R = TypeVar("R")


class _Shared(abc.ABC):
    """What both clients are made of: the api, connections used in turn, and retries.

    `target`: "host:port", or any gRPC name: "dns:///rankd.internal:50051",
    "ipv4:10.0.0.1:50051,10.0.0.2:50051", "unix:/run/rankd.sock".
    `timeout_s`: the deadline of Rank and Score, retries included; `batch_timeout_s`: of all else.
    `connections`: how many to each address. Connections, not calls, are spread over a machine's
    workers, so several reach more of them. `priority`: "batch" is refused first when a server has too much to do.
    `credentials`: None is plain text. `wait_for_ready`: while no server can be reached, go on trying up to
    the deadline. `retry`: see retries.py. `health_checking`: see options.service_config.
    `options`: gRPC channel arguments; they win over the client's own.
    Connects on the first calls. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 1.0,
        batch_timeout_s: float = 30.0,
        connections: int = CONNECTIONS,
        priority: Priority = "live",
        credentials: grpc.ChannelCredentials | None = None,
        wait_for_ready: bool = False,
        health_checking: bool = True,
        retry: bool = True,
        options: ChannelOptions = (),
    ) -> None:
        if connections < 1:
            raise ValueError(f"connections: expected at least 1, got {connections}")
        self.target = target
        self.api = Api(timeout_s, batch_timeout_s, priority)
        self._credentials = credentials
        self._options = channel_options(health_checking=health_checking, retry=False, more=options)
        self._retries = Retries(enabled=retry, wait_for_ready=wait_for_ready)
        self._connections: Connections[Any] = Connections(connections, self._open)
        self._closing: set[asyncio.Future[None]] = set()

    def _open(self) -> tuple[Any, dict[str, Callable[..., Any]]]:
        channel = self._new_channel()
        watch = functools.partial(self._first, HealthStub(channel).Watch)
        return channel, {**_methods(channel), "Watch": watch}

    @abc.abstractmethod
    def _new_channel(self) -> Any:
        """A new channel."""

    @staticmethod
    @abc.abstractmethod
    def _first(stream: Callable[..., Any], request: Any, **options: Any) -> Any:
        """The first response of a server stream, or for asyncio its awaitable."""

    def _scan_request(self, entity: str, signals: Iterable[str], cursor: str, page_rows: int) -> ScanSignalsRequest:
        names = strings("signals", signals)
        return ScanSignalsRequest(entity=entity, signals=names, cursor=cursor, page_rows=page_rows)

    def _attempts(self, call: Call[Any]) -> Attempts[Any]:
        return Attempts(self._connections, self._retries, call)


def _methods(channel: Any) -> dict[str, Callable[..., Any]]:
    """The methods of all services, by their names."""
    stubs = (FeedbackServiceStub(channel), RankingServiceStub(channel), SignalServiceStub(channel))
    return {name: method for stub in stubs for name, method in vars(stub).items()}


def _document(method: Callable[..., Any], flow: Callable[..., Any], returns: str) -> None:
    """Gives a method the name, documentation and signature of its flow, with its own return type."""
    functools.update_wrapper(method, flow)
    answer = str(flow.__annotations__["return"]).removeprefix("Flow[").removesuffix("]")
    signature = inspect.signature(flow).replace(return_annotation=returns.format(answer))
    method.__signature__ = signature  # type: ignore[attr-defined]


def _blocking(flow: Callable[Concatenate[Api, P], Flow[R]]) -> Callable[Concatenate[Client, P], R]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(flow(self.api, *args, **kwargs))

    _document(method, flow, "{}")
    return method


def _blocking_pages(
    flow: Callable[Concatenate[Api, P], Flow[RankedList]],
) -> Callable[Concatenate[Client, P], Iterator[RankedList]]:
    def pages(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[RankedList]:
        page = self._run(flow(self.api, *args, **kwargs))
        yield page
        while page.next_page_token:
            page = self._run(self.api.next_page(page))
            yield page

    _document(pages, flow, "Iterator[{}]")
    return pages


def _awaited(
    flow: Callable[Concatenate[Api, P], Flow[R]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, R]]:
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._run(flow(self.api, *args, **kwargs))

    _document(method, flow, "{}")
    return method


def _awaited_pages(
    flow: Callable[Concatenate[Api, P], Flow[RankedList]],
) -> Callable[Concatenate[AsyncClient, P], AsyncIterator[RankedList]]:
    async def pages(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[RankedList]:
        page = await self._run(flow(self.api, *args, **kwargs))
        yield page
        while page.next_page_token:
            page = await self._run(self.api.next_page(page))
            yield page

    _document(pages, flow, "AsyncIterator[{}]")
    return pages


class Client(_Shared):
    """rankd from threads; one client may be shared by all of them."""

    rank = _blocking(Api.rank)
    pages = _blocking_pages(Api.rank)
    next_page = _blocking(Api.next_page)
    batch_rank = _blocking(Api.batch_rank)
    score = _blocking(Api.score)
    write_signals = _blocking(Api.write_signals)
    get_signals = _blocking(Api.get_signals)
    delete_signals = _blocking(Api.delete_signals)
    describe_schema = _blocking(Api.describe_schema)
    health = _blocking(Api.health)
    rank_message = _blocking(Api.rank_message)
    score_message = _blocking(Api.score_message)
    write_message = _blocking(Api.write_message)
    collect = _blocking(Api.collect)
    forget_user = _blocking(Api.forget_user)

    def stream(
        self,
        batches: Iterable[StreamBatch | StreamSignalsRequest],
        *,
        patience_s: float = PATIENCE_S,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Iterator[Acknowledged]:
        """Writes batches one after the other; gives each one's cursor and result once it is durable.

        Goes on by itself after a lost connection: what was not answered is sent again, and nothing is written twice.
        `batches` is asked for more only while few are unanswered; an answer that came meanwhile is given before the
        next but one batch is asked for. Raises the last RankdRpcError when nothing has come for `patience_s`, and that
        of a faulty batch; all before it have been given by then. Nothing is sent until the first answer is asked for.
        """
        made = (self._run(self.api.stream_request(batch)) for batch in batches)
        return blocking_streams.stream(self._connections, made, patience_s, self.api.metadata(metadata, priority))

    def scan(
        self,
        entity: str,
        signals: Iterable[str] = (),
        *,
        cursor: str = "",
        page_rows: int = 0,
        patience_s: float = PATIENCE_S,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> Iterator[ScannedPage]:
        """All rows of an entity in pages, in no order; no `signals`: all of them. `cursor`: that of the last page there
        was. Goes on by itself after a lost connection; a row may then come twice. Raises the last RankdRpcError when
        nothing has come for `patience_s`."""
        request = self._scan_request(entity, signals, cursor, page_rows)
        return blocking_streams.scan(self._connections, request, patience_s, self.api.metadata(metadata, priority))

    def _new_channel(self) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(self.target, self._options)
        return grpc.secure_channel(self.target, self._credentials, self._options)

    @staticmethod
    def _first(stream: Callable[..., Any], request: Any, **options: Any) -> Any:
        responses = stream(request, **options)
        try:
            return next(responses)
        finally:
            responses.cancel()

    def _run(self, flow: Flow[R]) -> R:
        try:
            call = next(flow)
            while True:
                try:
                    response = self._answer(call)
                except RankdRpcError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(response)
        except StopIteration as end:
            answer: R = end.value
            return answer

    def _answer(self, call: Call[Any]) -> Any:
        attempts = self._attempts(call)
        while True:
            start = attempts.begin()
            try:
                response = start()
            except grpc.RpcError as error:
                pause_s = attempts.failed(error)
            else:
                attempts.succeeded()
                return response
            finally:
                for channel in attempts.leave():
                    channel.close()
            time.sleep(pause_s)

    def close(self) -> None:
        """Ends the connections; calls in flight are cancelled."""
        for channel in self._connections.close():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class AsyncClient(_Shared):
    """rankd from asyncio: the same methods, awaited; `pages` is an async iterator. Belongs to one event loop."""

    rank = _awaited(Api.rank)
    pages = _awaited_pages(Api.rank)
    next_page = _awaited(Api.next_page)
    batch_rank = _awaited(Api.batch_rank)
    score = _awaited(Api.score)
    write_signals = _awaited(Api.write_signals)
    get_signals = _awaited(Api.get_signals)
    delete_signals = _awaited(Api.delete_signals)
    describe_schema = _awaited(Api.describe_schema)
    health = _awaited(Api.health)
    rank_message = _awaited(Api.rank_message)
    score_message = _awaited(Api.score_message)
    write_message = _awaited(Api.write_message)
    collect = _awaited(Api.collect)
    forget_user = _awaited(Api.forget_user)

    def stream(
        self,
        batches: Iterable[StreamBatch | StreamSignalsRequest] | AsyncIterable[StreamBatch | StreamSignalsRequest],
        *,
        patience_s: float = PATIENCE_S,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> AsyncIterator[Acknowledged]:
        """Like Client.stream; an answer is given as soon as it comes, even while the next batch is waited for."""
        made, sent = self._requests(batches), self.api.metadata(metadata, priority)
        return async_streams.stream(self._connections, self._leave, made, patience_s, sent)

    async def _requests(
        self,
        batches: Iterable[StreamBatch | StreamSignalsRequest] | AsyncIterable[StreamBatch | StreamSignalsRequest],
    ) -> AsyncIterator[StreamSignalsRequest]:
        if isinstance(batches, AsyncIterable):
            async for batch in batches:
                yield await self._run(self.api.stream_request(batch))
        else:
            for batch in batches:
                yield await self._run(self.api.stream_request(batch))

    def scan(
        self,
        entity: str,
        signals: Iterable[str] = (),
        *,
        cursor: str = "",
        page_rows: int = 0,
        patience_s: float = PATIENCE_S,
        priority: Priority | None = None,
        metadata: Metadata = (),
    ) -> AsyncIterator[ScannedPage]:
        """Like Client.scan."""
        request = self._scan_request(entity, signals, cursor, page_rows)
        sent = self.api.metadata(metadata, priority)
        return async_streams.scan(self._connections, self._leave, request, patience_s, sent)

    def _leave(self, connection: Connection[grpc.aio.Channel], is_reached: bool | None) -> None:
        self._close_later(self._connections.done(connection, is_reached))

    def _close_later(self, channels: Iterable[Any]) -> None:
        for channel in channels:
            closing = asyncio.ensure_future(channel.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _new_channel(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.target, self._options)
        return grpc.aio.secure_channel(self.target, self._credentials, self._options)

    @staticmethod
    async def _first(stream: Callable[..., Any], request: Any, **options: Any) -> Any:
        responses = stream(request, **options)
        try:
            return await anext(aiter(responses))
        finally:
            responses.cancel()

    async def _run(self, flow: Flow[R]) -> R:
        try:
            call = next(flow)
            while True:
                try:
                    response = await self._answer(call)
                except RankdRpcError as error:
                    call = flow.throw(error)
                else:
                    call = flow.send(response)
        except StopIteration as end:
            answer: R = end.value
            return answer

    async def _answer(self, call: Call[Any]) -> Any:
        attempts = self._attempts(call)
        while True:
            start = attempts.begin()
            try:
                response = await start()
            except grpc.RpcError as error:
                pause_s = attempts.failed(error)
            else:
                attempts.succeeded()
                return response
            finally:
                self._close_later(attempts.leave())
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Ends the connections; calls in flight are cancelled."""
        for channel in self._connections.close():
            await channel.close()
        await asyncio.gather(*self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
