"""The least a Python gRPC server can do: grpc.aio on uvloop, bytes in, stored bytes out.

    python echo_server.py PORT FOLDER [WORK_S]

Method /bare.Echo/NAME answers with the content of FOLDER/NAME. Nothing is parsed or computed, so
what rankd costs above it is rankd's own. WORK_S seconds of CPU go by for each call: a service
without any admission control.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import uvloop


def answering(response: bytes, work_s: float) -> Any:
    """A handler that answers every request with the same bytes."""

    async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if work_s:
            end_s = time.thread_time() + work_s
            while time.thread_time() < end_s:
                pass
        return response

    return grpc.unary_unary_rpc_method_handler(handle)


async def main(port: int, responses: dict[str, bytes], work_s: float) -> None:
    """Serves until it is killed."""
    server = grpc.aio.server()
    handlers = {name: answering(response, work_s) for name, response in responses.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Echo", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    stored = {path.name: path.read_bytes() for path in Path(sys.argv[2]).iterdir()}
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main(int(sys.argv[1]), stored, float(sys.argv[3]) if len(sys.argv) > 3 else 0.0))
