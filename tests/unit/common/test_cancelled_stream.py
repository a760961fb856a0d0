"""A caller who goes away in the middle of a stream: what it has sent is not all there is."""

import asyncio

import grpc
import pytest
from llmspell.v1 import vector_pb2, vector_pb2_grpc

from services.common.door import Door, SealedContext
from services.common.telemetry import Counts
from tests.servers import SEAL, sealed

TIMES = 200


class Importing(vector_pb2_grpc.VectorServiceServicer):
    """Counts streams that came to their end."""

    def __init__(self):
        self.ended = 0
        self.begun = asyncio.Event()

    async def ImportVectors(self, requests, context):  # noqa: N802
        async for _ in requests:
            self.begun.set()
            yield vector_pb2.ImportVectorsResponse()
        self.ended += 1


@pytest.fixture
async def importing(tmp_path):
    """The servicer, and a way to call it."""
    servicer = Importing()
    door = Door(SealedContext(SEAL), Counts(), calls_at_once=5)
    server = grpc.aio.server(interceptors=(door,))
    vector_pb2_grpc.add_VectorServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{tmp_path}/vector")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/vector") as channel:
        yield servicer, vector_pb2_grpc.VectorServiceStub(channel)
    await server.stop(0)


async def test_a_stream_that_was_cancelled_does_not_look_ended(importing):
    """As grpc has it the last message may be followed by an end, and the news a moment later."""
    servicer, stub = importing
    for _ in range(TIMES):
        servicer.begun.clear()
        call = stub.ImportVectors(metadata=sealed())
        await call.write(vector_pb2.ImportVectorsRequest())
        await servicer.begun.wait()
        call.cancel()
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.05)
    assert servicer.ended == 0


async def test_a_stream_that_ends_does(importing):
    """Its handler comes to its end."""
    servicer, stub = importing
    call = stub.ImportVectors(metadata=sealed())
    await call.write(vector_pb2.ImportVectorsRequest())
    await call.done_writing()
    assert len([answer async for answer in call]) == 1
    assert servicer.ended == 1
