"""Health: Check and Watch on the health port; Watch on the serving port, for client-side health checking."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.serving import running

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def status(stream: Any) -> int:
    return int((await asyncio.wait_for(stream.read(), 5)).status)


async def test_watches_see_the_drain_and_end_with_it() -> None:
    async with (
        running(drain_seconds=0.2) as (server, client),
        grpc.aio.insecure_channel(server.health_address) as channel,
    ):
        probe: Any = health_pb2_grpc.HealthStub(channel)
        hot: Any = health_pb2_grpc.HealthStub(client.channel)
        name = health_pb2.HealthCheckRequest(service="rankd.v1.RankingService")
        watches = [probe.Watch(name), hot.Watch(name), hot.Watch(health_pb2.HealthCheckRequest())]
        unknown = hot.Watch(health_pb2.HealthCheckRequest(service="x"))
        assert [await status(watch) for watch in watches] == [SERVING] * 3
        assert await status(unknown) == UNKNOWN
        draining = asyncio.ensure_future(server.drain())
        assert [await status(watch) for watch in watches] == [NOT_SERVING] * 3
        # Watches do not hold up the stop: it takes the drain, not the grace.
        await asyncio.wait_for(draining, 5)


async def test_the_serving_port_knows_no_check() -> None:
    async with running() as (_, client):
        hot: Any = health_pb2_grpc.HealthStub(client.channel)
        with pytest.raises(grpc.RpcError) as caught:
            await hot.Check(health_pb2.HealthCheckRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


@pytest.mark.parametrize("reflection", [False, True])
async def test_reflection_is_on_the_health_port_if_asked_for(reflection: bool) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    async with (
        running(reflection=reflection) as (server, client),
        grpc.aio.insecure_channel(server.health_address) as channel,
    ):

        async def services(on: grpc.aio.Channel) -> list[str]:
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(on)
            call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            return [s.name for s in (await call.read()).list_services_response.service]

        if reflection:
            assert "rankd.v1.RankingService" in await services(channel)
        else:
            with pytest.raises(grpc.RpcError):
                await services(channel)
        with pytest.raises(grpc.RpcError):
            await services(client.channel)
