"""The server that all four processes serve with."""

from __future__ import annotations

import asyncio

from llmspell.v1 import state_pb2, state_pb2_grpc

from services.common.door import Door, SealedContext
from services.common.limits import CALLS_AT_ONCE
from services.common.server import new_server
from services.common.telemetry import Counts
from tests.servers import SEAL, calling, sealed


class _Echo(state_pb2_grpc.StateServiceServicer):
    async def GetState(self, request, context):  # noqa: N802
        return state_pb2.GetStateResponse(revision=len(request.key))


async def test_no_task_waits_for_a_method_of_its_own():
    """A call costs the same however many methods there are, and each is found."""
    server = new_server(Door(SealedContext(SEAL), Counts(), calls_at_once=CALLS_AT_ONCE))
    state_pb2_grpc.add_StateServiceServicer_to_server(_Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with calling(f"127.0.0.1:{port}") as channel:
            stub = state_pb2_grpc.StateServiceStub(channel)
            answer = await stub.GetState(state_pb2.GetStateRequest(key="four"), metadata=sealed())
            assert answer.revision == 4
            waiting = [task for task in asyncio.all_tasks() if "._request_" in repr(task)]
            assert len(waiting) <= 1
    finally:
        await server.stop(0)
