"""The least a Python gRPC server can do: grpc.aio on uvloop, bytes in, stored bytes out.

    python echo_server.py PORT FOLDER

Method /bare.Echo/NAME answers with the content of FOLDER/NAME. Nothing is parsed or computed, so
what rankd costs above it is rankd's own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import uvloop


def answering(response: bytes) -> Any:
    """A handler that answers every request with the same bytes."""

    async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return response

    return grpc.unary_unary_rpc_method_handler(handle)


async def main(port: int, responses: dict[str, bytes]) -> None:
    """Serves until it is killed."""
    server = grpc.aio.server()
    handlers = {name: answering(response) for name, response in responses.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Echo", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main(int(sys.argv[1]), {path.name: path.read_bytes() for path in Path(sys.argv[2]).iterdir()}))
