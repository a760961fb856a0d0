"""Real servers of the contract inside a test: small bodies, the real door, the real transport."""

import asyncio
from contextlib import asynccontextmanager

import grpc
from llmspell.v1 import (
    script_pb2,
    script_pb2_grpc,
    state_pb2,
    state_pb2_grpc,
    vector_pb2,
    vector_pb2_grpc,
)

from services.common.clock import SystemClock
from services.common.context import METADATA_KEY, CallContext, Seal, current_context
from services.common.door import Door, SealedContext
from services.common.handlers import Handlers
from services.common.relay import CHANNEL_OPTIONS
from services.common.server import new_server
from services.common.telemetry import Counts
from services.common.terminus import Terminus

KEY = bytes(range(32))
SEAL = Seal(KEY, SystemClock())
EVERYTHING = CallContext(tenant="acme", principal="k1", permissions=("*",), request_id="r1")
GET = "/llmspell.v1.StateService/GetState"
SET = "/llmspell.v1.StateService/SetState"
RUN = "/llmspell.v1.ScriptService/RunScript"
IMPORT = "/llmspell.v1.VectorService/ImportVectors"


def sealed(context=EVERYTHING, lifetime_s=30.0, seal=SEAL):
    """The metadata that a call behind the gateway carries."""
    return ((METADATA_KEY, seal.seal(context, lifetime_s=lifetime_s)),)


class Bodies(
    state_pb2_grpc.StateServiceServicer,
    script_pb2_grpc.ScriptServiceServicer,
    vector_pb2_grpc.VectorServiceServicer,
):
    """Servicers whose bodies a test sets; what they saw is kept."""

    def __init__(self):
        self.seen = []
        self.remaining = []
        self.cancelled = asyncio.Event()
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.get = self.answer
        self.run = self.count
        self.exchange = self.answer_each
        self.received = 0

    async def GetState(self, request, context):  # noqa: N802
        return await self._do(self.get, request, context)

    async def SetState(self, request, context):  # noqa: N802
        return await self._do(self.get, request, context)

    async def RunScript(self, request, context):  # noqa: N802
        self.remaining.append(context.time_remaining())
        self.seen.append(current_context())
        try:
            async for event in self.run(request):
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise

    async def ImportVectors(self, requests, context):  # noqa: N802
        self.remaining.append(context.time_remaining())
        self.seen.append(current_context())
        try:
            async for answer in self.exchange(self._counted(requests)):
                yield answer
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise

    async def _counted(self, requests):
        async for request in requests:
            self.received += 1
            yield request

    async def _do(self, body, request, context):
        self.remaining.append(context.time_remaining())
        self.seen.append(current_context())
        try:
            return await body(request)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def answer(self, request):
        """The key comes back as the value."""
        item = state_pb2.Item(key=request.key, value=state_pb2.Payload(text=request.key))
        return state_pb2.GetStateResponse(item=item)

    async def wait(self, request):
        """Answers when it is told to."""
        self.began.set()
        await self.go_on.wait()
        return await self.answer(request)

    async def count(self, request):
        """As many events as the script's name says."""
        for number in range(int(request.name or 3)):
            yield output(b"%d" % number)

    async def one_then_wait(self, request):
        """One event, then silence."""
        yield output(b"first")
        self.began.set()
        await self.go_on.wait()

    async def answer_each(self, requests):
        """An answer to each message, before the next is asked for."""
        async for _ in requests:
            yield progress(self.received)

    async def read_when_told(self, requests):
        """Reads nothing until it is told to."""
        self.began.set()
        await self.go_on.wait()
        async for _ in requests:
            yield progress(self.received)


def progress(sequence):
    """An answer to one message of an import."""
    return vector_pb2.ImportVectorsResponse(sequence=sequence)


def output(data):
    """An event of a run."""
    return script_pb2.RunScriptResponse(output=script_pb2.RunOutput(data=data))


@asynccontextmanager
async def serving(
    *,
    identify=None,
    bodies=None,
    handlers=(),
    at_once=256,
    address="127.0.0.1:0",
    trunk=True,
    certificates=None,
):
    """A server with the door in front, and trunks; gives its address and counts."""
    counts = Counts()
    door = Door(identify or SealedContext(SEAL), counts, calls_at_once=at_once)
    handlers_known = Handlers()
    server = new_server(door, handlers_known)
    terminus = Terminus(door, SEAL, handlers_known) if trunk else None
    if terminus is not None:
        server.add_generic_rpc_handlers((terminus,))
    if bodies is not None:
        state_pb2_grpc.add_StateServiceServicer_to_server(bodies, server)
        script_pb2_grpc.add_ScriptServiceServicer_to_server(bodies, server)
        vector_pb2_grpc.add_VectorServiceServicer_to_server(bodies, server)
    if handlers:
        server.add_generic_rpc_handlers(handlers)
    if certificates is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, certificates.server_credentials())
    await server.start()
    try:
        yield (f"127.0.0.1:{port}" if address.endswith(":0") else address), counts
    finally:
        if terminus is not None:
            terminus.drain()
        await server.stop(0)


@asynccontextmanager
async def calling(address):
    """A channel to a server."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        yield channel


async def settled(condition):
    """Let the loop turn until something holds; a test's own time limit ends a wait in vain."""
    while not condition():  # noqa: ASYNC110  (there is nothing to be told by)
        await asyncio.sleep(0.001)
