"""The small languages inside rankd.yaml: names, durations, addresses, types.

Each parser takes what was written and raises ValueError("expected …, got …").
"""

from __future__ import annotations

import difflib
import ipaddress
import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass

from rankd.limits import MAX_EMBEDDING_DIMENSION, MAX_LIST_MEMBERS, MAX_NAME_CHARS
from rankd.workspace.yaml_text import shown

IDENTIFIER_PATTERN = rf"^[A-Za-z_][A-Za-z0-9_]{{0,{MAX_NAME_CHARS - 1}}}$"
"""Names that expressions use."""

NAME_PATTERN = rf"^[A-Za-z_][A-Za-z0-9_.-]{{0,{MAX_NAME_CHARS - 1}}}$"
"""Names of profiles and models."""

DURATION_PATTERN = r"^(0*[1-9][0-9]{0,8}(\.[0-9]{1,9})?|0+\.[0-9]{0,8}[1-9][0-9]*)(ms|s|m|h|d|w)$"

RESERVED_ENTITIES = frozenset({"candidate", "column", "context", "request"})
"""Namespaces of expressions that are not entities."""

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_SIZED = re.compile(r"(embedding|list)\[([0-9]{1,9})\]")
_MOST = {
    "embedding": (MAX_EMBEDDING_DIMENSION, "an embedding", "numbers"),
    "list": (MAX_LIST_MEMBERS, "a list", "members"),
}


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """'; did you mean "price"?', or "" where nothing is near."""
    near = difflib.get_close_matches(name[:200], list(names), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def one_of(name: str, names: Iterable[str], what: str) -> str:
    """The message for a `name` that is none of `names`."""
    known = sorted(names)
    listed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"expected {what}, one of {listed or '(none declared)'}; got {shown(name)}{did_you_mean(name, known)}"


def check_identifier(text: str) -> str:
    """A name that can stand in an expression."""
    if not re.match(IDENTIFIER_PATTERN, text) or text.endswith("\n"):
        raise ValueError(
            "expected a name of letters, digits and _ that does not start with a digit, "
            f"at most {MAX_NAME_CHARS} long, got {shown(text)}"
        )
    if keyword.iskeyword(text):
        raise ValueError(f"expected a name that expressions can use, got {shown(text)}, a word of their syntax")
    return text


def check_name(text: str) -> str:
    """A name of a profile or model."""
    if not re.match(NAME_PATTERN, text) or text.endswith("\n"):
        raise ValueError(
            "expected a name of letters, digits, _, - and . that starts with a letter or _, "
            f"at most {MAX_NAME_CHARS} long, got {shown(text)}"
        )
    return text


def check_entity_name(text: str) -> str:
    """A name of an entity: an identifier that is not a namespace already."""
    if text in RESERVED_ENTITIES:
        raise ValueError(f"expected a name other than {', '.join(sorted(RESERVED_ENTITIES))}, got {shown(text)}")
    return check_identifier(text)


def parse_duration(text: str) -> float:
    """Seconds: 500ms, 30s, 15m, 12h, 7d, 2w; more than 0."""
    match = re.fullmatch(DURATION_PATTERN, text)
    if not match:
        raise ValueError(f"expected a duration such as 30s, 15m, 12h or 7d, got {shown(text)}")
    return float(match[1]) * _SECONDS[match[3]]


def parse_type(text: str, names: Iterable[str], what: str) -> tuple[str, int]:
    """A type's name and dimension: ("f32", 0), ("embedding", 16), ("list", 20). `names`: the types there are."""
    known = list(names)
    match = _SIZED.fullmatch(text)
    if match and match[1] in known:
        dimension = int(match[2])
        most, a_type, parts = _MOST[match[1]]
        if not 1 <= dimension <= most:
            raise ValueError(f"expected {a_type} of 1 to {most} {parts}, got {dimension}")
        return match[1], dimension
    if text in _MOST or text not in known:
        raise ValueError(one_of(text, [f"{n}[n]" if n in _MOST else n for n in known], what))
    return text, 0


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or connect: host and port, or the path of a Unix socket (then host is "" and port 0)."""

    host: str
    port: int
    socket_path: str = ""

    @property
    def target(self) -> str:
        """As grpc takes it: 127.0.0.1:50051, [::1]:50051, unix:/run/rankd.sock."""
        if self.socket_path:
            return f"unix:{self.socket_path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it."""
        if self.socket_path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """host:port, [IPv6]:port or unix:/path; port 0 means any that is free."""
    refusal = ValueError(f"expected host:port, [IPv6 address]:port or unix:/path, got {shown(text)}")
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        # 107: sun_path of Linux, less its final NUL.
        if not path or len(path.encode()) > 107 or not path.isprintable():
            raise refusal
        return Address("", 0, path)
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise refusal
    if host.startswith("[") and host.endswith("]"):
        try:
            return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise refusal from None
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9.])?", host):
        raise refusal
    return Address(host, int(port))
