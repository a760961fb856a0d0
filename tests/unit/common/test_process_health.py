"""The health of a process: those who watch it are told and let go when it stops."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.health import Health


async def test_a_watch_does_not_hold_up_the_end(tmp_path):
    """Who watches hears that the process leaves, and its stream ends before the drain does."""
    server, health = grpc.aio.server(), Health()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    address = f"unix:{tmp_path}/process"
    server.add_insecure_port(address)
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        heard = [(await watch.read()).status]
        await health.enter_graceful_shutdown()
        heard.append((await watch.read()).status)
        health.end_watches()
        async with asyncio.timeout(5):
            await server.stop(60)
        assert await watch.read() is grpc.aio.EOF
        assert await watch.code() is grpc.StatusCode.OK
    serving = health_pb2.HealthCheckResponse
    assert heard == [serving.SERVING, serving.NOT_SERVING]
