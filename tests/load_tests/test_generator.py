"""The load generator: what it offers, what it counts, and that it never waits for answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.repository import ROOT

sys.path.insert(0, str(ROOT / "load_tests"))

from bench import processes
from bench.processes import Running
from generator.capacity import Objective, find_capacity, keeps_up
from generator.offer import GeneratorError, Offer, Outcome, Stream
from generator.process import Generator

ECHO = "/bare.Echo/a"


def offer(**changes: object) -> Offer:
    return Offer(**{"target": "", "streams": [Stream("a", [b""])], "rate": 100.0, "seconds": 2.0} | changes)  # type: ignore[arg-type]


def outcome(asked: Offer, latency_s: list[float], code: list[int], lag_s: float = 0.0) -> Outcome:
    count = len(code)
    zeros = np.zeros(count)
    at_s = np.arange(count) / asked.rate
    return Outcome(
        asked, at_s, zeros + lag_s, np.array(latency_s), np.array(code, np.int16), zeros.astype(np.intp),
        zeros.astype(np.int8), zeros.astype(np.int32),
    )  # fmt: skip


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert np.allclose(offer(arrivals="constant").times_s(), np.arange(200) / 100)


def test_poisson_arrivals_have_the_rate_asked_for_and_exponential_gaps() -> None:
    times = offer(rate=2_000.0, seconds=5.0).times_s()
    assert len(times) == 10_000
    assert (np.diff(times) >= 0).all()
    assert 0 <= times[0] <= times[-1] <= 5
    gaps = np.diff(times) * 2_000
    assert gaps.mean() == pytest.approx(1, abs=0.05)
    assert gaps.std() == pytest.approx(1, abs=0.1)
    assert np.array_equal(times, offer(rate=2_000.0, seconds=5.0).times_s())
    assert not np.array_equal(times, offer(rate=2_000.0, seconds=5.0, seed=2).times_s())


def test_a_second_rate_follows_the_first() -> None:
    times = offer(after=(50.0, 4.0)).times_s()
    assert len(times) == 400
    assert ((times >= 2) & (times < 6)).sum() == 200
    assert (np.diff(times) >= 0).all()


def test_streams_get_their_shares() -> None:
    asked = offer(streams=[Stream("a", [b""], share=3), Stream("b", [b""], share=1)])
    assert (asked.stream_of(10_000) == 0).mean() == pytest.approx(0.75, abs=0.03)


def test_good_is_answered_within_the_deadline() -> None:
    found = outcome(offer(rate=4.0, seconds=1.0, deadline_s=0.1), [0.05, 0.15, 0.05, 0.1], [0, 0, 8, 0])
    assert found.good.tolist() == [True, False, False, True]
    assert found.goodput == 2
    assert found.failed == 1
    assert found.statuses() == {"OK": 3, "RESOURCE_EXHAUSTED": 1}
    assert found.latency_ms(50) == pytest.approx(100)
    assert found.share_good("a") == 0.5


def test_recovery_ends_with_the_last_bad_bin() -> None:
    codes = [8] * 100 + [0] * 10 + [8] * 5 + [0] * 85
    found = outcome(offer(rate=100.0, after=(100.0, 1.0)), [0.01] * 200, codes)
    assert found.recovered_s(1.0) == pytest.approx(0.15)
    assert found.recovered_s(1.2) == 0
    assert found.part(1.0, 1.1).goodput == pytest.approx(100)


def test_a_generator_that_lags_is_an_error() -> None:
    outcome(offer(), [0.01] * 10, [0] * 10, lag_s=0.019).check_generator(20.0)
    with pytest.raises(GeneratorError, match="it, not the server, is the limit"):
        keeps_up(outcome(offer(), [0.01] * 10, [0] * 10, lag_s=0.021))


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with Generator() as started:
        yield started


@pytest.fixture(scope="module")
def slow_echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One call takes 20 ms of CPU: 50 calls/s at most."""
    folder = tmp_path_factory.mktemp("responses")
    Path(folder, "a").write_bytes(b"answer")
    with processes.echo(folder, work_s=0.02) as server:
        yield server


def test_calls_are_sent_on_time_whatever_the_server_does(generator: Generator, slow_echo: Running) -> None:
    """Three times as many as it can answer: latencies grow from the time each call was due."""
    asked = Offer(slow_echo.target, [Stream("a", [b"x"], ECHO)], 150.0, 1.0, deadline_s=20.0)
    found = generator.run(asked)
    assert found.statuses() == {"OK": 150}
    # The last call waits for all before it: 3 s of work, less the second in which they were sent.
    assert found.latency_s[-10:].mean() > 1.2
    assert found.lag_ms(50) < 500


def test_calls_fail_at_their_deadline(generator: Generator, slow_echo: Running) -> None:
    found = generator.run(Offer(slow_echo.target, [Stream("a", [b"x"], ECHO)], 300.0, 0.5, deadline_s=0.1))
    assert found.statuses()["DEADLINE_EXCEEDED"] > 75
    assert found.texts


def test_an_unknown_method_is_counted_not_raised(generator: Generator, slow_echo: Running) -> None:
    found = generator.run(Offer(slow_echo.target, [Stream("a", [b"x"], "/bare.Echo/none")], 50.0, 0.2))
    assert found.statuses() == {"UNIMPLEMENTED": 10}


def test_a_target_that_does_not_listen_is_an_error_of_the_run(generator: Generator) -> None:
    (port,) = processes.free_ports(1)
    asked = Offer(f"127.0.0.1:{port}", [Stream("a", [b""], ECHO)], 10.0, 0.1, ready_s=0.5)
    with pytest.raises(TimeoutError):
        generator.run(asked)


def test_capacity_is_below_what_the_server_can_do(generator: Generator, slow_echo: Running) -> None:
    asked = Offer(slow_echo.target, [Stream("a", [b"x"], ECHO)], 1.0, 1.0, deadline_s=0.5)
    objective = Objective(p99_ms=300.0, failed_share=0.05, lag_ms=1e4)
    found = find_capacity(generator, asked, 80.0, steps=5, objective=objective)
    assert 0 < found.rate < 60
    assert found.tries[0][0] == pytest.approx(68)
    assert keeps_up(found.at_rate, objective)


def test_a_process_that_ends_before_it_serves_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", "print('cannot'); raise SystemExit(3)"]
    with pytest.raises(RuntimeError, match="ended with status 3"), processes.running(command, 1, None, None):
        pass
    assert "cannot" in capfd.readouterr().err


def test_workers_are_those_who_listen(slow_echo: Running) -> None:
    assert slow_echo.find_workers() == [slow_echo.pid]
    assert slow_echo.cpu_s() > 0
    assert processes.pss_bytes(slow_echo.pid) > 1_000_000
