"""What is to be sent, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

OK = 0
NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
RANK = "/rankd.v1.RankingService/Rank"
BATCH_RANK = "/rankd.v1.RankingService/BatchRank"


class GeneratorError(RuntimeError):
    """The generator could not do what was asked, so that what was measured is its own limit."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Calls of one sort: `share` of all. `requests` are serialized and sent in turn."""

    name: str
    requests: Sequence[bytes]
    method: str = RANK
    share: float = 1.0
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """Calls at a rate.

    `arrivals`: "poisson" (independent callers) or "constant". `via_client`: through rankd.client.AsyncClient with
    its retries, health checking and round robin; else bare calls that fail at the first failure.
    `keep_answers`: tell what each call was answered, see Outcome.answers.
    """

    target: str
    streams: Sequence[Stream]
    rate: float
    seconds: float
    deadline_s: float = 0.1
    channels: int = 4
    arrivals: str = "poisson"
    seed: int = 1
    via_client: bool = False
    keep_answers: bool = False
    after: tuple[float, float] | None = None
    """(rate, seconds) that follow at once."""
    ready_s: float = 20.0
    """How long to wait for connections."""

    def times_s(self) -> NDArray[np.float64]:
        """When each call is to be sent, from the start, ascending."""
        times = self._arrivals(self.rate, self.seconds)
        if self.after is None:
            return times
        return np.concatenate([times, self.seconds + self._arrivals(*self.after)])

    def _arrivals(self, rate: float, seconds: float) -> NDArray[np.float64]:
        count = max(1, round(rate * seconds))
        if self.arrivals == "constant":
            return np.arange(count) / rate
        # Given their number, the arrivals of a Poisson process are uniform: so the rate is exactly what was asked.
        return np.sort(np.random.default_rng(self.seed).random(count)) * (count / rate)

    def stream_of(self, count: int) -> NDArray[np.intp]:
        """Which stream each of `count` calls belongs to."""
        shares = np.array([stream.share for stream in self.streams])
        return np.random.default_rng(self.seed + 1).choice(len(shares), count, p=shares / shares.sum())


@dataclass(slots=True)
class Outcome:
    """One entry per call, in the order they were to be sent. Times in seconds."""

    offer: Offer
    at_s: NDArray[np.float64]
    """When it was to be sent, from the start."""
    lag_s: NDArray[np.float64]
    """How much later it was sent: the generator's fault."""
    latency_s: NDArray[np.float64]
    """From when it was to be sent to its end."""
    code: NDArray[np.int16]
    """The gRPC status."""
    stream: NDArray[np.intp]
    degraded: NDArray[np.int8]
    """The level of degradation of an answer; 0: none."""
    answer: NDArray[np.int32]
    """Index into `answers`; -1: no answer or not kept."""
    answers: Sequence[Any] = ()
    """The distinct (stream, request, results): results is one (versions, ids, scores) per list answered."""
    texts: Mapping[str, int] = field(default_factory=dict)
    """How often each "STATUS: details" came."""

    def part(self, start_s: float, end_s: float) -> Outcome:
        """The calls that were to be sent from one time to another, as if nothing else had been offered."""
        chosen = (self.at_s >= start_s) & (self.at_s < end_s)
        count = int(chosen.sum())
        offer = replace(self.offer, rate=count / (end_s - start_s), seconds=end_s - start_s, after=None)
        arrays = (self.at_s - start_s, self.lag_s, self.latency_s, self.code, self.stream, self.degraded, self.answer)
        return Outcome(offer, *(array[chosen] for array in arrays), self.answers, self.texts)

    def recovered_s(self, start_s: float, bin_s: float = 0.05) -> float:
        """How long after start_s it took until good answers were, and stayed, 99 of 100."""
        last = 0.0
        bins = np.arange(start_s, float(self.at_s[-1]), bin_s)
        for number, at_s in enumerate(bins):
            chosen = (self.at_s >= at_s) & (self.at_s < at_s + bin_s)
            if chosen.any() and self.good[chosen].mean() < 0.99:
                last = (number + 1) * bin_s
        return last

    @property
    def good(self) -> NDArray[np.bool_]:
        """Answered within the deadline."""
        return (self.code == OK) & (self.latency_s <= self.offer.deadline_s)

    @property
    def goodput(self) -> float:
        """Good answers a second."""
        return float(self.good.sum() / self.offer.seconds)

    def share_good(self, stream: str) -> float:
        """Of the calls of one stream."""
        mine = self.stream == [one.name for one in self.offer.streams].index(stream)
        return float(self.good[mine].mean())

    @property
    def failed(self) -> int:
        """Calls that ended with another status than OK."""
        return int((self.code != OK).sum())

    @property
    def degraded_share(self) -> float:
        """Of the answers, those that left something out."""
        answered = self.code == OK
        return float((self.degraded[answered] > 0).mean()) if answered.any() else 0.0

    def latency_ms(self, percent: float) -> float:
        """A percentile over all answers; NaN without any."""
        answered = self.latency_s[self.code == OK]
        return float(np.percentile(answered, percent)) * 1e3 if len(answered) else float("nan")

    def lag_ms(self, percent: float) -> float:
        """A percentile of the generator's own lateness."""
        return float(np.percentile(self.lag_s, percent)) * 1e3

    def statuses(self) -> dict[str, int]:
        """How often each status came, the most frequent first."""
        codes, counts = np.unique(self.code, return_counts=True)
        order = np.argsort(-counts)
        return {NAMES[int(codes[i])]: int(counts[i]) for i in order}

    def is_on_time(self, limit_ms: float) -> bool:
        """Whether 99 of 100 calls left at most limit_ms late."""
        return self.lag_ms(99) <= limit_ms

    def check_generator(self, limit_ms: float) -> None:
        """GeneratorError if it could not keep up: 1 % of the calls left more than limit_ms late."""
        if not self.is_on_time(limit_ms):
            raise GeneratorError(
                f"the generator sent 1 % of {self.offer.rate:,.0f} calls/s {self.lag_ms(99):.0f} ms late or later "
                f"(limit {limit_ms:g} ms): it, not the server, is the limit"
            )
