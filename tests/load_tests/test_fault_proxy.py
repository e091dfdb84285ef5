"""The fault proxy does what it says, and nothing when nothing is asked of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from load_tests.faults.proxy import FaultProxy, Faults


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()
    await server.wait_closed()


Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(proxy: FaultProxy) -> Client:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def ask(client: Client, data: bytes) -> bytes:
    """What comes back: as much as was sent, or what there was before the end."""
    client[1].write(data)
    try:
        return await asyncio.wait_for(client[0].readexactly(len(data)), 5)
    except asyncio.IncompleteReadError as cut:
        return cut.partial
    except ConnectionError:
        return b""


async def test_without_faults_it_passes_everything_on(proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 4_000
    assert await ask(await connect(proxy), data) == data
    assert (proxy.connections, proxy.cuts) == (1, 0)


async def test_a_delay(proxy: FaultProxy) -> None:
    client = await connect(proxy)
    proxy.faults = Faults(delay_s=0.1)
    start = time.monotonic()
    assert await ask(client, b"x") == b"x"
    assert time.monotonic() - start >= 0.1


async def test_a_cut_in_the_middle_of_a_reply(proxy: FaultProxy) -> None:
    client = await connect(proxy)
    assert await ask(client, b"abc") == b"abc"
    proxy.faults = Faults(cut_after=5)
    assert await ask(client, b"abc") == b"abc"
    assert await ask(client, b"defg") == b"de"
    assert proxy.cuts == 1
    proxy.faults = Faults()
    assert await ask(await connect(proxy), b"defg") == b"defg"


async def test_refusing_cuts_open_connections_and_takes_no_more(proxy: FaultProxy) -> None:
    client = await connect(proxy)
    assert await ask(client, b"a") == b"a"
    proxy.faults = Faults(is_refusing=True)
    assert await ask(client, b"b") == b""
    assert await ask(await connect(proxy), b"c") == b""
    proxy.faults = Faults()
    assert await ask(await connect(proxy), b"d") == b"d"


async def test_a_black_hole_until_it_is_over(proxy: FaultProxy) -> None:
    proxy.faults = Faults(is_black_hole=True)
    client = await connect(proxy)
    client[1].write(b"x")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client[0].read(1), 0.1)
    proxy.faults = Faults()
    assert await asyncio.wait_for(client[0].read(1), 5) == b"x"


async def test_slow_bytes(proxy: FaultProxy) -> None:
    proxy.faults = Faults(bytes_per_s=1_600)
    client = await connect(proxy)
    start = time.monotonic()
    assert await ask(client, b"x" * 160) == b"x" * 160
    assert time.monotonic() - start >= 0.05


async def test_a_target_that_is_not_there(proxy: FaultProxy) -> None:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with FaultProxy("127.0.0.1", port) as nowhere:
        assert await ask(await connect(nowhere), b"x") == b""
