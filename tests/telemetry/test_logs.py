"""Log lines, and how many of them."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from rankd.telemetry.logs import Brake, configure


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def lines(format: str) -> list[str]:
    stream = io.StringIO()
    configure(format, "info", stream)
    log = logging.getLogger("rankd.test")
    log.debug("not written")
    log.info("hello %s", "a\nforged line \x1b[31m", extra={"request_id": "r\n1", "trace_id": "t", "span_id": ""})
    try:
        raise ValueError("why")
    except ValueError:
        log.error("failed", exc_info=True)
    return stream.getvalue().splitlines()


@pytest.mark.usefixtures("restored")
def test_text_is_one_line_a_record() -> None:
    first, second, *traceback = lines("text")
    assert first.endswith(r"INFO rankd.test: hello a\nforged line \x1b[31m request_id='r\n1' trace_id='t'")
    assert second.endswith("ERROR rankd.test: failed")
    assert traceback[-1] == "ValueError: why"


@pytest.mark.usefixtures("restored")
def test_json_is_one_object_a_record() -> None:
    first, second = map(json.loads, lines("json"))
    assert first["message"] == "hello a\nforged line \x1b[31m"
    assert (first["level"], first["logger"], first["request_id"], first["trace_id"]) == (
        "INFO",
        "rankd.test",
        "r\n1",
        "t",
    )
    assert "span_id" not in first
    assert second["exception"].endswith("ValueError: why")


@pytest.mark.usefixtures("restored")
def test_the_default_is_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure()
    logging.getLogger("x").warning("there")
    assert "there" in stream.getvalue()


def test_the_brake_lets_ten_a_second_through_and_counts_the_rest() -> None:
    now = 100.0
    brake = Brake(10, lambda: now)
    assert [brake.admit() for _ in range(10)] == [""] * 10
    assert [brake.admit() for _ in range(5)] == [None] * 5
    now = 101.0
    assert brake.admit() == " (5 like it not logged)"
    assert brake.admit() == ""
