"""gRPC servers and the addresses they listen on."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import grpc

from rankd.errors import ConfigError
from rankd.limits import RequestLimits
from rankd.workspace import Address

MAX_PENDING_CALLS: Final = 256
"""Calls that wait in gRPC's core, accepted by nobody yet: beyond it some, beyond twice as many all are
refused; the caller sees CANCELLED. gRPC's defaults, 1,000 and 3,000, let calls wait until they are worthless."""


def new_server(
    limits: RequestLimits, handlers: Sequence[grpc.GenericRpcHandler[Any, Any]], shared_port: bool = False
) -> grpc.aio.Server:
    """A server without an address. `shared_port`: others may listen on its port, which the supervisor holds."""
    # Never maximum_concurrent_rpcs: it would refuse health checks, too.
    return grpc.aio.server(
        handlers=list(handlers),
        options=[
            # On by default: two servers would share a port without a word.
            ("grpc.so_reuseport", int(shared_port)),
            ("grpc.max_receive_message_length", limits.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
            ("grpc.server.max_pending_requests_hard_limit", 2 * MAX_PENDING_CALLS),
        ],
    )


def bind(server: grpc.aio.Server, address: Address, setting: str, shared_port: bool = False) -> int:
    """The port bound. ConfigError that says why not: gRPC itself only says that it failed."""
    if not shared_port:
        _probe(address, setting)
    try:
        return server.add_insecure_port(address.target)
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {address.target}", setting) from error


def bound_target(address: Address, port: int) -> str:
    """Where a client finds what listens on `address`, when its port is known."""
    return address.target if address.socket_path else replace(address, port=port).target


def _probe(address: Address, setting: str) -> None:
    """Binds and lets go, to learn the reason if it fails."""
    if address.socket_path or not address.port:
        return
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
            raise ConfigError(f"address {address.target} {reason}", setting) from None
