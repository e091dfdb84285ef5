"""A TCP port that belongs to the supervisor and on which its children listen (SO_REUSEPORT).

SO_REUSEPORT alone would let two servers share a port without a word. So the port is first bound
without it, which fails if anyone has it, and opened to children of the same user only then.
The supervisor never listens on it: connections go to the children alone, and while one of them is
being restarted nobody else can take the port.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from typing import Self

from rankd.errors import ConfigError
from rankd.workspace import Address


class Reservation:
    """Holds `address` until `close`; port 0 is resolved to a free one. Unix sockets are not held.

    ConfigError, naming the `setting`, if the address cannot be had.
    """

    def __init__(self, address: Address, setting: str) -> None:
        self.address = address
        self._socket: socket.socket | None = None
        if address.socket_path:
            return
        # A port without connections of a former server is taken so that not even a server that has only
        # bound it, and does not listen yet, can share it; with such connections, SO_REUSEADDR must be had.
        try:
            self._socket = _bound(address, False)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _refused(address, setting, error) from None
            try:
                self._socket = _bound(address, True)
            except OSError as again:
                raise _refused(address, setting, again) from None
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.address = replace(address, port=self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go."""
        if self._socket is not None:
            self._socket.close()


def _bound(address: Address, reuse_address: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse_address))
        made.bind((address.host, address.port))
    except BaseException:
        made.close()
        raise
    return made


def _refused(address: Address, setting: str, error: OSError) -> ConfigError:
    reason = "is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return ConfigError(f"address {address.target} {reason}", setting)
