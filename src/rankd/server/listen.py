"""gRPC servers and the addresses they listen on."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import grpc

from rankd.errors import ConfigError
from rankd.workspace import Address, ServerSettings


def new_server(
    settings: ServerSettings, handlers: Sequence[grpc.GenericRpcHandler[Any, Any]], shared_port: int = 0
) -> grpc.aio.Server:
    """A server without an address. `shared_port`: see `bind`."""
    # Never maximum_concurrent_rpcs: it would refuse health checks, too.
    return grpc.aio.server(
        handlers=list(handlers),
        options=[
            # On by default: two servers would share a port without a word.
            ("grpc.so_reuseport", int(bool(shared_port))),
            ("grpc.max_receive_message_length", settings.limits.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            # gRPC's defaults, 1,000 and 3,000, let calls wait until they are worthless.
            ("grpc.server.max_pending_requests", settings.admission.max_pending_calls),
            ("grpc.server.max_pending_requests_hard_limit", 2 * settings.admission.max_pending_calls),
        ],
    )


def bind(server: grpc.aio.Server, address: Address, setting: str, shared_port: int = 0) -> int:
    """The port bound. ConfigError that says why not: gRPC itself only says that it failed.

    `shared_port` is the port to take if not 0: the supervisor holds it, and others may listen on it, too."""
    if shared_port:
        address = replace(address, port=shared_port)
    else:
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
