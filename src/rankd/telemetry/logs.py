"""Log lines: text or JSON, with request and trace ids, and a brake on repetition."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TextIO

CONTEXT_KEYS: Final = ("request_id", "trace_id", "span_id")
"""Attributes that callers put on records by `extra=`; they go into every format."""

MAX_FAULT_LINES_PER_SECOND: Final = 10


def _context(record: logging.LogRecord) -> dict[str, str]:
    return {key: value for key in CONTEXT_KEYS if (value := getattr(record, key, None))}


def _utc(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z INFO rankd.server: message request_id=…`; after the logger the process, if it
    has a name: `rankd.server [worker 1]: `."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = f" [{process}]" if process else ""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_utc(record)} {record.levelname} {record.name}{self._process}: {record.getMessage()}"
        # A caller's id could forge a second line or colour a terminal.
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        line += "".join(f" {key}={value!r}" for key, value in _context(record).items())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, process, message, ids, and the traceback as one string."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = {"process": process} if process else {}

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": _utc(record),
            "level": record.levelname,
            "logger": record.name,
            **self._process,
            "message": record.getMessage(),
            **_context(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def configure(format: str = "text", level: str = "info", stream: TextIO | None = None, process: str = "") -> None:
    """Sends the root logger to `stream` (default stderr). `format` is text or json. `process` is its name, for
    services of several."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(process) if format == "json" else TextFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class Brake:
    """Lets at most `per_second` lines through in any clock second, and says how many it held back."""

    def __init__(
        self, per_second: int = MAX_FAULT_LINES_PER_SECOND, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._clock = clock
        self._second = -1
        self._passed = 0
        self._held = 0

    def admit(self) -> str | None:
        """None: say nothing. Otherwise the line's end: empty, or how many like it were held back."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._passed = second, 0
        if self._passed >= self._per_second:
            self._held += 1
            return None
        self._passed += 1
        held, self._held = self._held, 0
        return f" ({held} like it not logged)" if held else ""
