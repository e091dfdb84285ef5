"""Which failures are followed by another attempt, when, and how many in all."""

from __future__ import annotations

import threading

import grpc
import pytest

from rankd.client.errors import RankdRpcError
from rankd.client.retries import LOST_BURST, MAX_ATTEMPTS, OVERLOAD_BURST, Budget, Retries
from rankd.errors import Reason

CODE = grpc.StatusCode
UNAVAILABLE = RankdRpcError(CODE.UNAVAILABLE, "gone")
CANCELLED = RankdRpcError(CODE.CANCELLED, "gone")


def overloaded(retry_after_s: float | None) -> RankdRpcError:
    return RankdRpcError(CODE.RESOURCE_EXHAUSTED, "busy", reason=Reason.OVERLOADED, retry_after_s=retry_after_s)


def policy(enabled: bool = True, wait_for_ready: bool = False) -> Retries:
    """At time 100, with jitter at its middle."""
    return Retries(enabled, wait_for_ready, lambda: 100.0, lambda low, high: (low + high) / 2)


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (UNAVAILABLE, [0.0, 0.02, 0.04, 0.08, 0.16, 0.32, None]),
        (CANCELLED, [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, None]),
    ],
)
def test_lost_calls_are_repeated_ever_later(error: RankdRpcError, pauses: list[float | None]) -> None:
    assert [policy().pause_s(error, attempts, 200.0) for attempts in range(1, MAX_ATTEMPTS + 1)] == pauses


def test_a_pause_leaves_time_for_the_attempt() -> None:
    assert policy().pause_s(UNAVAILABLE, 6, 100.1) == pytest.approx(0.05)
    assert policy().pause_s(UNAVAILABLE, 6, 100.001) is None
    assert policy().pause_s(UNAVAILABLE, 1, 99.0) is None


def test_a_server_that_says_when_is_not_asked_sooner() -> None:
    told = RankdRpcError(CODE.UNAVAILABLE, "gone", retry_after_s=3.0)
    assert policy().pause_s(told, 1, 200.0) == 3.0
    assert policy().pause_s(overloaded(3.0), 1, 200.0) == pytest.approx(3.3)
    assert policy().pause_s(overloaded(3.0), 1, 103.0) is None
    assert policy().pause_s(overloaded(None), 1, 200.0) is None


@pytest.mark.parametrize("code", [code for code in CODE if code.name not in ("UNAVAILABLE", "CANCELLED")])
def test_nothing_else_is_repeated(code: grpc.StatusCode) -> None:
    assert policy().pause_s(RankdRpcError(code, "no"), 1, 200.0) is None


def test_it_can_be_turned_off_and_waiting_is_another_thing() -> None:
    off = policy(enabled=False)
    assert off.pause_s(UNAVAILABLE, 1, 200.0) is None
    assert off.pause_s(overloaded(0.1), 1, 200.0) is None
    waiting = policy(enabled=False, wait_for_ready=True)
    assert [waiting.pause_s(UNAVAILABLE, attempts, 200.0) for attempts in (1, 2, 50)] == [0.0, 0.02, 0.5]
    assert waiting.pause_s(CANCELLED, 1, 200.0) is None
    refused = RankdRpcError(CODE.UNAVAILABLE, "store", reason=Reason.UNAVAILABLE)
    assert waiting.pause_s(refused, 1, 200.0) is None, "a server was reached"


@pytest.mark.parametrize(("error", "burst"), [(UNAVAILABLE, LOST_BURST), (overloaded(0.1), OVERLOAD_BURST)])
def test_in_the_long_run_one_retry_for_ten_answers(error: RankdRpcError, burst: int) -> None:
    it = policy()

    def granted(wanted: int) -> int:
        return sum(it.pause_s(error, 1, 200.0) is not None for _ in range(wanted))

    assert granted(5_000) == burst
    for _ in range(109):
        it.succeeded()
    assert granted(100) == 10
    for _ in range(100_000):
        it.succeeded()
    assert granted(5_000) == burst, "no more is saved up"


def test_a_budget_is_for_many_threads() -> None:
    budget, taken = Budget(1_000), []

    def spend() -> None:
        taken.append(sum(budget.spend() for _ in range(500)))

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1_000
