"""Errors, retries, deadlines, health: what happens when a call does not simply succeed."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent import futures

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from support.fake_rankd import FakeRankd, bad_request, error_info, running, status

from rankd.client import (
    AsyncClient,
    CallCancelledError,
    Client,
    DeadlineError,
    ExhaustedError,
    FieldViolation,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PreconditionError,
    RankdRpcError,
    ServerFaultError,
    ServerUnavailableError,
)
from rankd.client.retries import MAX_ATTEMPTS
from rankd.errors import RankdError, Reason

CODE = grpc.StatusCode


def test_an_error_carries_reason_violations_and_request_id(client, fake):
    fake.failures = [
        status(
            CODE.INVALID_ARGUMENT,
            "2 violations",
            error_info("DUPLICATE_ID", request_id="from-server"),
            bad_request(("candidates.ids[7]", "expected distinct ids, got a"), ("profile", "expected b, got c")),
        )
    ]
    with pytest.raises(InvalidRequestError) as caught:
        client.rank("search", ["a"], request_id="mine")
    error = caught.value
    assert isinstance(error, RankdError) and error.code is CODE.INVALID_ARGUMENT
    assert error.reason is Reason.DUPLICATE_ID and not error.retryable
    assert error.violations[0] == FieldViolation("candidates.ids[7]", "expected distinct ids, got a")
    assert error.request_id == "from-server"
    assert str(error) == (
        "INVALID_ARGUMENT (DUPLICATE_ID): candidates.ids[7]: expected distinct ids, got a; "
        "profile: expected b, got c [request from-server]"
    )


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        (CODE.NOT_FOUND, NotFoundError, False),
        (CODE.FAILED_PRECONDITION, PreconditionError, False),
        (CODE.RESOURCE_EXHAUSTED, ExhaustedError, False),
        (CODE.INTERNAL, ServerFaultError, False),
        (CODE.UNKNOWN, ServerFaultError, False),
        (CODE.DATA_LOSS, ServerFaultError, False),
        (CODE.DEADLINE_EXCEEDED, DeadlineError, False),
        (CODE.ABORTED, RankdRpcError, True),
        (CODE.PERMISSION_DENIED, RankdRpcError, False),
    ],
)
def test_each_code_has_its_class_and_is_tried_once(client, fake, code, kind, retryable):
    fake.failures = [status(code, "why")]
    with pytest.raises(RankdRpcError) as caught:
        client.rank("search", ["a"], request_id="mine")
    assert type(caught.value) is kind and caught.value.code is code
    assert caught.value.retryable is retryable
    assert caught.value.request_id == "mine" and "why" in str(caught.value)
    assert fake.count("Rank") == 1


def busy(seconds: float, reason: str = "OVERLOADED"):
    delay = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=round(seconds * 1e9)))
    return status(CODE.RESOURCE_EXHAUSTED, "busy", error_info(reason), delay)


def test_an_overloaded_server_is_asked_again_when_it_says(client, fake):
    fake.failures = [busy(0.05), busy(0.05)]
    started = time.monotonic()
    assert client.rank("search", ["a"]).ids == ["a"]
    assert time.monotonic() - started >= 0.1
    assert fake.count("Rank") == 3


def test_an_overload_that_outlasts_the_deadline_is_the_call_s_error(client, fake):
    fake.failures = [busy(0.25)]
    started = time.monotonic()
    with pytest.raises(OverloadedError) as caught:
        client.rank("search", ["a"], timeout_s=0.2)
    assert time.monotonic() - started < 0.2, "it does not wait for nothing"
    assert caught.value.retry_after_s == 0.25 and caught.value.retryable
    assert caught.value.reason is Reason.OVERLOADED and isinstance(caught.value, ExhaustedError)
    assert fake.count("Rank") == 1


def test_exhaustion_without_a_time_is_tried_once(client, fake):
    fake.failures = [status(CODE.RESOURCE_EXHAUSTED, "full", error_info("STORE_FULL"))]
    with pytest.raises(ExhaustedError) as caught:
        client.rank("search", ["a"])
    assert type(caught.value) is ExhaustedError and not caught.value.retryable
    assert fake.count("Rank") == 1


@pytest.mark.parametrize(("pushback", "calls"), [("20", 2), ("-1", 1), ("soon", 1), ("", 1)])
def test_grpcs_own_pushback_is_heeded(client, fake, pushback, calls):
    """gRFC A6: milliseconds; what is no such number means never."""
    fake.failures = [status(CODE.RESOURCE_EXHAUSTED, "busy", error_info("OVERLOADED"))]
    fake.pushbacks = [pushback]
    if calls == 1:
        with pytest.raises(OverloadedError):
            client.rank("search", ["a"])
    else:
        client.rank("search", ["a"])
    assert fake.count("Rank") == calls


def test_an_overload_is_not_fed(client, fake):
    """Of many calls that are all refused, few are repeated; what succeeds earns one retry in ten."""
    fake.failures = [busy(0.001)] * 1_000
    for _ in range(100):
        with pytest.raises(OverloadedError):
            client.rank("search", ["a"])
    assert fake.count("Rank") == 110
    fake.failures = []
    for _ in range(50):
        client.rank("search", ["a"])
    fake.calls.clear()
    fake.failures = [busy(0.001)] * 1_000
    for _ in range(20):
        with pytest.raises(OverloadedError):
            client.rank("search", ["a"])
    assert fake.count("Rank") == 25


def test_damaged_and_foreign_details_are_ignored(client, fake):
    damaged = status(CODE.NOT_FOUND, "gone", error_info("UNKNOWN_PROFILE"))
    damaged.details[0].value = b"\xff\xff\xff"
    foreign = status(CODE.NOT_FOUND, "gone", error_details_pb2.ErrorInfo(domain="other", reason="INTERNAL"))
    newer = status(CODE.NOT_FOUND, "gone", error_info("NOT_YET_INVENTED"))
    for failure in (damaged, foreign, newer):
        fake.failures = [failure]
        with pytest.raises(NotFoundError) as caught:
            client.rank("search", ["a"])
        assert caught.value.reason is None and caught.value.message == "gone"


@pytest.mark.parametrize("code", [CODE.UNAVAILABLE, CODE.CANCELLED])
@pytest.mark.parametrize("method", ["Rank", "WriteSignals"])
def test_a_call_a_server_dropped_is_retried(client, fake, code, method):
    if method == "WriteSignals":
        client.describe_schema()
    fake.failures = [status(code, "draining")] * 2
    if method == "Rank":
        assert client.rank("search", ["a"]).ids == ["a"]
    else:
        assert client.write_signals("item", ["a"], {"price": [1]}).written_count == 1
    assert fake.count(method) == 3


def test_a_request_larger_than_grpcs_own_buffer_is_retried(client, fake):
    """gRPC drops its copy of a call above 256 KiB and then does not retry it, unless told otherwise."""
    fake.failures = [status(CODE.UNAVAILABLE, "draining")]
    columns = {f"c{n}": [1.0] * 10_000 for n in range(50)}
    ranked = client.rank("search", [str(n) for n in range(10_000)], columns=columns)
    assert len(ranked) == 10_000 and fake.count("Rank") == 2
    assert fake.requests("Rank")[0].ByteSize() > 2_000_000


@pytest.mark.parametrize(
    ("code", "kind"), [(CODE.UNAVAILABLE, ServerUnavailableError), (CODE.CANCELLED, CallCancelledError)]
)
def test_retries_end(client, fake, code, kind):
    fake.failures = [status(code, "down")] * 20
    with pytest.raises(kind) as caught:
        client.rank("search", ["a"])
    assert fake.count("Rank") == MAX_ATTEMPTS and caught.value.retryable


def test_retries_can_be_switched_off(fake):
    fake.failures = [status(CODE.UNAVAILABLE, "down")]
    with Client(f"127.0.0.1:{fake.port}", retry=False) as client, pytest.raises(ServerUnavailableError):
        client.rank("search", ["a"])
    assert fake.count("Rank") == 1


def test_every_call_has_a_deadline(fake):
    fake.delay_s = 5
    with Client(f"127.0.0.1:{fake.port}", timeout_s=0.2) as client:
        with pytest.raises(DeadlineError):
            client.rank("search", ["a"], request_id="slow")
        with pytest.raises(DeadlineError) as caught:
            client.get_signals("item", ["a"], timeout_s=0.2)
    assert not caught.value.retryable


def test_no_server_fails_soon_unless_told_to_wait():
    with Client("127.0.0.1:1", timeout_s=30) as client, pytest.raises(ServerUnavailableError):
        client.rank("search", ["a"])
    port = free_port()
    with Client(f"127.0.0.1:{port}", wait_for_ready=True) as client:
        started = time.monotonic()
        with pytest.raises((ServerUnavailableError, DeadlineError)):  # the last attempt may be cut short
            client.rank("search", ["a"], timeout_s=0.5)
        assert time.monotonic() - started > 0.4
        with futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.rank, "search", ["a"], timeout_s=30)
            time.sleep(1)  # longer than all attempts take
            with running(FakeRankd(), port=port):
                assert waiting.result(30).ids == ["a"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_an_address_that_says_not_serving_gets_no_calls():
    """Client-side health checking, which a drain relies on; a server without it counts as healthy."""
    with (
        running(FakeRankd("a")) as one,
        running(FakeRankd("b"), with_health=False) as two,
        Client(f"ipv4:127.0.0.1:{one.port},127.0.0.1:{two.port}", wait_for_ready=True, timeout_s=10) as client,
    ):

        def models(count):
            return {client.rank("search", ["a"]).versions.model for _ in range(count)}

        def until(wanted):
            end = time.monotonic() + 10
            while models(8) != wanted:
                assert time.monotonic() < end, wanted
                time.sleep(0.02)

        until({"a", "b"})
        one.health.set(2)
        until({"b"})
        assert models(30) == {"b"}
        one.health.set(1)
        until({"a", "b"})


def test_one_server_stopping_fails_no_call():
    with running(FakeRankd("a")) as one:
        with running(FakeRankd("b")) as two:
            client = Client(f"ipv4:127.0.0.1:{one.port},127.0.0.1:{two.port}", timeout_s=10)
            assert {client.rank("search", ["a"]).versions.model for _ in range(50)} <= {"a", "b"}
        with client:
            assert {client.rank("search", ["a"]).versions.model for _ in range(20)} == {"a"}


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_one_of_two_workers_on_a_port_drains_and_fails_no_call(kind):
    """Workers share a port by SO_REUSEPORT. All connections may have gone to the one that then says NOT_SERVING and
    serves no one any more: the client leaves it for the other, and calls in flight there are answered."""
    port = free_port()
    stop = threading.Event()
    with running(FakeRankd("a"), port=port) as one, running(FakeRankd("b"), port=port):
        one.delay_s = 0.01
        target = f"127.0.0.1:{port}"
        models: list[str] = []

        def calls(client):
            while not stop.is_set():
                models.append(client.rank("search", ["a"], timeout_s=10).versions.model)

        async def async_calls():
            async with AsyncClient(target) as client:

                async def calls():
                    while not stop.is_set():
                        models.append((await client.rank("search", ["a"], timeout_s=10)).versions.model)

                await asyncio.gather(*(calls() for _ in range(8)))

        with Client(target) as client, futures.ThreadPoolExecutor(8) as pool:
            jobs = (
                [pool.submit(calls, client) for _ in range(8)]
                if kind == "threads"
                else [pool.submit(asyncio.run, async_calls())]
            )
            try:
                for _ in range(3):
                    until(lambda: len(set(models[-100:])) == 2 or len(models) > 500)
                    one.health.set(2)
                    until(lambda: "a" not in models[-200:] and len(models) >= 200)
                    one.health.set(1)
                    models.clear()
            finally:
                stop.set()
            for job in jobs:
                job.result(30)


def until(condition):
    """Fails if the condition does not come true."""
    for _ in range(3_000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("did not come true")
