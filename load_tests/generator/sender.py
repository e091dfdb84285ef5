"""The sender's side: runs in the generator's process, one event loop, no thread but gRPC's own."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import uvloop

from generator.offer import BATCH_RANK, OK, RANK, Offer, Outcome
from rankd.client import AsyncClient, RankdRpcError, RankList
from rankd.v1.ranking_pb2 import BatchRankRequest, BatchRankResponse, RankRequest, RankResponse

LEAD_S = 0.05
"""Between the last preparation and the first call."""

Answer = tuple[int, Sequence[RankResponse], str]
"""Status, a response per list, what was said of a failure."""

_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
]
_READERS = {
    RANK: lambda data: [RankResponse.FromString(data)],
    BATCH_RANK: lambda data: [result.response for result in BatchRankResponse.FromString(data).results],
}


class _Bare:
    """Bytes to bytes over some channels in turn. What is refused stays refused."""

    def __init__(self, offer: Offer) -> None:
        self._channels = [grpc.aio.insecure_channel(offer.target, _OPTIONS) for _ in range(offer.channels)]
        self._methods = [[channel.unary_unary(s.method) for channel in self._channels] for s in offer.streams]
        self._metadata = [stream.metadata or None for stream in offer.streams]
        self._read = [_READERS.get(stream.method, lambda _: []) for stream in offer.streams]
        self._next = 0

    async def ready(self) -> None:
        await asyncio.gather(*(channel.channel_ready() for channel in self._channels))

    async def send(self, request: bytes, timeout_s: float, stream: int) -> Answer:
        self._next = (self._next + 1) % len(self._channels)
        call = self._methods[stream][self._next](request, timeout=timeout_s, metadata=self._metadata[stream])
        code = await call.code()  # raises nothing, which is cheaper than what awaiting the call raises
        if code is grpc.StatusCode.OK:
            return OK, self._read[stream](await call), ""
        return code.value[0], (), f"{code.name}: {await call.details()}"

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


class _Retrying:
    """Through rankd's own client, with what it does about failures."""

    def __init__(self, offer: Offer) -> None:
        self._client = AsyncClient(
            offer.target, connections=offer.channels, timeout_s=offer.deadline_s, batch_timeout_s=offer.deadline_s
        )
        self._calls = [self._batch_rank if s.method == BATCH_RANK else self._rank for s in offer.streams]

    async def ready(self) -> None:
        await self._client.health()

    async def _rank(self, request: bytes, timeout_s: float) -> Sequence[RankResponse]:
        return [(await self._client.rank_message(RankRequest.FromString(request), timeout_s=timeout_s)).message]

    async def _batch_rank(self, request: bytes, timeout_s: float) -> Sequence[RankResponse]:
        batch = BatchRankRequest.FromString(request)
        lists = [
            RankList(list(one.candidates.ids), columns={c.name: np.array(c.values) for c in one.candidates.columns})
            for one in batch.lists
        ]
        found = await self._client.batch_rank(batch.common.profile, lists, view="scores", timeout_s=timeout_s)
        for result in found:
            if isinstance(result, RankdRpcError):
                raise result
        return [result.message for result in found if not isinstance(result, RankdRpcError)]

    async def send(self, request: bytes, timeout_s: float, stream: int) -> Answer:
        try:
            return OK, await self._calls[stream](request, timeout_s), ""
        except RankdRpcError as error:
            return error.code.value[0], (), str(error)

    async def close(self) -> None:
        await self._client.close()


class _Recorder:
    """Outcome under construction."""

    def __init__(self, offer: Offer) -> None:
        self.times = offer.times_s()
        count = len(self.times)
        self.streams = offer.stream_of(count)
        self.outcome = Outcome(
            offer, self.times, np.zeros(count), np.full(count, np.inf), np.full(count, -1, np.int16), self.streams,
            np.zeros(count, np.int8), np.full(count, -1, np.int32),
        )  # fmt: skip
        self.texts: Counter[str] = Counter()
        self.answers: dict[Any, int] = {}

    def ended(self, i: int, latency_s: float, answer: Answer, stream: int, request: int) -> None:
        code, results, text = answer
        self.outcome.latency_s[i] = latency_s
        self.outcome.code[i] = code
        if text:
            self.texts[text[:160]] += 1
        if results:
            self.outcome.degraded[i] = max(result.degradation.level for result in results)
            if self.outcome.offer.keep_answers:
                key = (stream, request, tuple(_told(result) for result in results))
                self.outcome.answer[i] = self.answers.setdefault(key, len(self.answers))

    def done(self) -> Outcome:
        self.outcome.answers, self.outcome.texts = list(self.answers), dict(self.texts.most_common(20))
        return self.outcome


def _told(answer: RankResponse) -> tuple[tuple[str, str], tuple[str, ...], tuple[float, ...]]:
    return (answer.versions.profile, answer.versions.model), tuple(answer.ids), tuple(answer.scores)


async def _run(offer: Offer) -> Outcome:
    recorder = _Recorder(offer)
    sender = _Retrying(offer) if offer.via_client else _Bare(offer)
    try:
        await asyncio.wait_for(sender.ready(), offer.ready_s)
    except BaseException:
        await sender.close()
        raise
    sent = [0] * len(offer.streams)
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    started = time.perf_counter() + LEAD_S

    async def one(i: int, stream: int, number: int) -> None:
        requests = offer.streams[stream].requests
        due = started + recorder.times[i]
        lag = time.perf_counter() - due
        recorder.outcome.lag_s[i] = lag
        answer = await sender.send(requests[number], max(offer.deadline_s - lag, 1e-3), stream)
        recorder.ended(i, time.perf_counter() - due, answer, stream, number)

    gc.collect()
    gc.freeze()
    for i, at_s in enumerate(recorder.times.tolist()):
        wait = started + at_s - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        elif i % 32 == 0:
            await asyncio.sleep(0)  # late: what has come back is looked at all the same
        stream = int(recorder.streams[i])
        task = loop.create_task(one(i, stream, sent[stream] % len(offer.streams[stream].requests)))
        sent[stream] += 1
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks, timeout=offer.deadline_s + 5)
    await sender.close()
    if tasks:
        raise RuntimeError(f"{len(tasks)} calls had no end 5 s after their deadline")
    return recorder.done()


def serve_offers(pipe: Any) -> None:
    """The main function of the process: offers in, outcomes or exceptions out, until the pipe closes."""
    while True:
        try:
            offer = pipe.recv()
        except EOFError:
            return
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                pipe.send(runner.run(_run(offer)))
        except Exception as error:
            pipe.send(error)
