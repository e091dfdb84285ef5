"""Errors, retries, deadlines, health: what happens when a call does not simply succeed."""

from __future__ import annotations

import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from support.fake_rankd import FakeRankd, bad_request, error_info, running, status

from rankd.client import (
    CallCancelledError,
    Client,
    DeadlineError,
    ExhaustedError,
    FieldViolation,
    InvalidRequestError,
    NotFoundError,
    PreconditionError,
    RankdRpcError,
    ServerFaultError,
    ServerUnavailableError,
)
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


def test_retry_info_makes_exhaustion_retryable(client, fake):
    delay = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=250_000_000))
    fake.failures = [status(CODE.RESOURCE_EXHAUSTED, "busy", delay)]
    with pytest.raises(ExhaustedError) as caught:
        client.rank("search", ["a"])
    assert caught.value.retry_after_s == 0.25 and caught.value.retryable


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
    fake.failures = [status(code, "down")] * 10
    with pytest.raises(kind) as caught:
        client.rank("search", ["a"])
    assert fake.count("Rank") == 4 and caught.value.retryable


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


def test_no_server_fails_at_once_unless_told_to_wait():
    with Client("127.0.0.1:1") as client, pytest.raises(ServerUnavailableError):
        client.rank("search", ["a"])
    with Client("127.0.0.1:1", wait_for_ready=True) as client, pytest.raises(DeadlineError):
        client.rank("search", ["a"], timeout_s=0.2)


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
