"""Client and AsyncClient: they open channels and drive the generators of `rankd.client.api`."""

from __future__ import annotations

import abc
import functools
import inspect
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc
from grpc_health.v1.health_pb2_grpc import HealthStub

from rankd.client.api import Api, Flow
from rankd.client.errors import RankdRpcError, from_rpc_error
from rankd.client.options import ChannelOptions, channel_options
from rankd.client.views import Call, RankedList
from rankd.v1.ranking_pb2_grpc import RankingServiceStub
from rankd.v1.signals_pb2_grpc import SignalServiceStub

P = ParamSpec("P")
R = TypeVar("R")


class _Shared(abc.ABC):
    """What both clients are made of: the api, and some channels used in turn.

    `target`: "host:port", or any gRPC name: "dns:///rankd.internal:50051",
    "ipv4:10.0.0.1:50051,10.0.0.2:50051", "unix:/run/rankd.sock".
    `timeout_s`: the deadline of Rank and Score, retries included; `batch_timeout_s`: of all else.
    `channels`: connections per address. Connections, not calls, are spread over a machine's
    workers, so several reach more of them. `credentials`: None is plain text.
    `wait_for_ready`: while no server can be reached, wait for one up to the deadline instead of failing.
    `health_checking`, `retry`: see options.service_config.
    `options`: gRPC channel arguments; they win over the client's own.
    Connects on the first call. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 1.0,
        batch_timeout_s: float = 30.0,
        channels: int = 1,
        credentials: grpc.ChannelCredentials | None = None,
        wait_for_ready: bool = False,
        health_checking: bool = True,
        retry: bool = True,
        options: ChannelOptions = (),
    ) -> None:
        if channels < 1:
            raise ValueError(f"channels: expected at least 1, got {channels}")
        self.target = target
        self.api = Api(timeout_s, batch_timeout_s)
        self._credentials = credentials
        self._wait_for_ready = wait_for_ready
        self._options = channel_options(
            own_connection=channels > 1, health_checking=health_checking, retry=retry, more=options
        )
        self._channel_count = channels
        self._channels: list[Any] = []
        self._methods: Iterator[dict[str, Callable[..., Any]]] | None = None
        self._opening = threading.Lock()

    @abc.abstractmethod
    def _open(self) -> Any:
        """A new channel."""

    def _next_channel(self) -> dict[str, Callable[..., Any]]:
        """The multi-callables of the next channel, by the methods' short names."""
        if self._methods is None:  # on the first call: asyncio channels belong to the loop that runs then
            with self._opening:
                if self._methods is None:
                    self._channels = [self._open() for _ in range(self._channel_count)]
                    self._methods = itertools.cycle([self._multi_callables(channel) for channel in self._channels])
        return next(self._methods)

    def _multi_callables(self, channel: Any) -> dict[str, Callable[..., Any]]:
        watch = functools.partial(self._first, HealthStub(channel).Watch)
        return {**vars(RankingServiceStub(channel)), **vars(SignalServiceStub(channel)), "Watch": watch}

    @staticmethod
    @abc.abstractmethod
    def _first(stream: Callable[..., Any], request: Any, **options: Any) -> Any:
        """The first response of a server stream, or for asyncio its awaitable."""

    def _start(self, call: Call[Any]) -> Any:
        """Starts a call: its response, or for asyncio its awaitable."""
        return self._next_channel()[call.method](
            call.request, timeout=call.timeout_s, metadata=call.metadata or None, wait_for_ready=self._wait_for_ready
        )


def _failed(error: Any, call: Call[Any]) -> RankdRpcError:
    return from_rpc_error(error, getattr(call.request, "request_id", ""))


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

    def _open(self) -> grpc.Channel:
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
                    response = self._start(call)
                except grpc.RpcError as error:
                    call = flow.throw(_failed(error, call))
                else:
                    call = flow.send(response)
        except StopIteration as end:
            answer: R = end.value
            return answer

    def close(self) -> None:
        """Ends the connections; calls in flight are cancelled."""
        for channel in self._channels:
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

    def _open(self) -> grpc.aio.Channel:
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
                    response = await self._start(call)
                except grpc.RpcError as error:
                    call = flow.throw(_failed(error, call))
                else:
                    call = flow.send(response)
        except StopIteration as end:
            answer: R = end.value
            return answer

    async def close(self) -> None:
        """Ends the connections; calls in flight are cancelled."""
        for channel in self._channels:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
