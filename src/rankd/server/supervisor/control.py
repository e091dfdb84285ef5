"""What the supervisor and its children say to each other: JSON objects, one a line, over a socket pair.

    supervisor: {"do": "start", …}   first of all: see Start
                {"do": "serving", "serving": true}    to the keeper: what health is to say
                {"do": "keeper"}     to workers: the keeper takes writes (again)
                {"do": "reload"}     read the workspace again
                {"do": "drain"}      finish and exit; "announce": false for a worker whose replacement serves
                {"do": "hurry"}      do not wait any longer
    child:      {"say": "ready", …}  it serves; with all that a beat has
                {"say": "beat", …}   every BEAT_S: "in_flight", "calls", "rows", "versions", "reload" (the last
                                     one), "drain_s" (how long it may take to finish)
                {"say": "replace"}   it serves, but another of its kind would serve better
                {"say": "draining"}  it is finishing, whoever told it to
                {"say": "failed", "kind": …, "message": …, "where": …}   it could not start, and exits

The end of the channel tells each side that the other is gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rankd.errors import ConfigError, StoreError, UnavailableError
from rankd.workspace import Override

BEAT_S: Final = 0.5
"""How often a child says that it lives."""

MAX_LINE_BYTES: Final = 1024 * 1024

Message = dict[str, Any]


def encode(message: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message | None:
    """The message of a line; None if it is none."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


@dataclass(frozen=True, slots=True)
class Start:
    """What a child needs to know: the workspace's file, the settings given beside it, who it is, the ports that the
    supervisor holds for it (0: a Unix socket), where the keeper listens for writes, its share of the CPUs. `index`
    counts workers from 1."""

    workspace: str
    overrides: Sequence[Override]
    index: int
    port: int
    health_port: int
    keeper_socket: str
    cpus: int

    def to_message(self) -> Message:
        return {
            "do": "start",
            "workspace": self.workspace,
            "overrides": [[o.source, list(o.path), o.value] for o in self.overrides],
            "index": self.index,
            "port": self.port,
            "health_port": self.health_port,
            "keeper_socket": self.keeper_socket,
            "cpus": self.cpus,
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Start:
        """The reverse. KeyError or TypeError for what is no such message."""
        overrides = [Override(source, tuple(path), value) for source, path, value in message["overrides"]]
        rest = {name: message[name] for name in ("index", "port", "health_port", "keeper_socket", "cpus")}
        return cls(message["workspace"], overrides, **rest)


class ChildFailedError(Exception):
    """A child could not start for a reason that is a fault of rankd."""


def failure_message(error: BaseException) -> Message:
    """What a child says of the error that kept it from starting."""
    said: Message = {"say": "failed", "kind": "fault", "message": f"{type(error).__name__}: {error}", "where": ""}
    if isinstance(error, ConfigError):
        return {**said, "kind": "config", "message": error.message, "where": error.where}
    if isinstance(error, StoreError):
        return {**said, "kind": "store", "message": str(error)}
    if isinstance(error, UnavailableError):
        return {**said, "kind": "unavailable", "message": str(error)}
    if isinstance(error, OSError):
        name = error.filename if isinstance(error.filename, str) else ""
        return {**said, "kind": "os", "message": error.strerror or str(error), "where": name, "errno": error.errno}
    return said


def failure_error(message: Mapping[str, Any]) -> Exception:
    """The error again, for the supervisor to end with."""
    text, where = str(message.get("message", "")), str(message.get("where", ""))
    match message.get("kind"):
        case "config":
            return ConfigError(text, where)
        case "store":
            return StoreError(text)
        case "unavailable":
            return UnavailableError(text)
        case "os":
            return OSError(message.get("errno") or 0, text, where or None)
        case _:
            return ChildFailedError(text)
