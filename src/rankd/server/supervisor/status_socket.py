"""Asking a running service how it is: JSON over a Unix socket that only its user can open.

One line either way: {"ask": "status"}, and the answer of Supervisor.status().
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from rankd.errors import UnavailableError

MAX_QUESTION_BYTES: Final = 4_096
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
QUESTION_S: Final = 2.0
"""Who has not asked by then is cut off."""
MAX_CONNECTIONS: Final = 32


class StatusSocket:
    """Answers on `path` until `close`."""

    def __init__(self, path: Path, answer: Callable[[], dict[str, Any]]) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> None:
        """Listens. OSError if it cannot. Others are kept out by the folder's mode, and by the socket's."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Of a socket that is not bound yet, fchmod decides the mode that bind gives it (unix(7)).
            os.fchmod(listening.fileno(), 0o600)
            listening.bind(str(self._path))
            self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=MAX_QUESTION_BYTES)
        except BaseException:
            listening.close()
            raise

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                # ValueError: a line that is too long.
                with suppress(ConnectionError, TimeoutError, ValueError):
                    await asyncio.wait_for(self._talk(reader, writer), QUESTION_S)
        finally:
            self._connections -= 1
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        try:
            asked = json.loads(line)
        except (ValueError, RecursionError):
            asked = None
        known = isinstance(asked, dict) and asked.get("ask") == "status"
        answer = self._answer() if known else {"error": 'expected {"ask": "status"}'}
        writer.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
        await writer.drain()

    async def close(self) -> None:
        """Answers no more."""
        if self._server is not None:
            self._server.close()


def ask_status(path: Path, timeout_s: float) -> dict[str, Any]:
    """The status of the service behind a socket. UnavailableError if nobody answers in time or in sense."""
    give_up = time.monotonic() + timeout_s
    data = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(timeout_s)
            asking.connect(str(path))
            asking.sendall(b'{"ask": "status"}\n')
            while not data.endswith(b"\n") and len(data) <= MAX_ANSWER_BYTES:
                asking.settimeout(max(give_up - time.monotonic(), 0.001))
                piece = asking.recv(65_536)
                if not piece:
                    break
                data += piece
        answer = json.loads(data)
    except (OSError, ValueError) as error:
        raise UnavailableError(f"no answer from the service at {path}: {error}") from None
    if not isinstance(answer, dict):
        raise UnavailableError(f"no sense in the answer of the service at {path}")
    return answer
