"""Gates, places and observers of a door, over a real server."""

from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest
from llmspell.v1 import state_pb2, state_pb2_grpc

from services.common.clock import SystemClock
from services.common.context import METADATA_KEY, CallContext, Seal, current_context
from services.common.door import Door, SealedContext
from services.common.errors import Reason, ServiceError
from services.common.server import new_server
from services.common.telemetry import Counts

SEAL = Seal(bytes(32), SystemClock())


class State(state_pb2_grpc.StateServiceServicer):
    """Answers with what the door made of the caller."""

    def __init__(self, told):
        self.told = told

    async def GetState(self, request, context):  # noqa: N802
        """One answer."""
        self.told.append(f"handler for {current_context().principal}")
        if request.key == "bad":
            raise ServiceError(Reason.ITEM_NOT_FOUND, "It is not there.")
        return state_pb2.GetStateResponse(item=state_pb2.Item(key=request.key))


class World:
    """A door with one of each, and what they were told in order."""

    def __init__(self):
        self.told = []
        self.ends = []

    async def gate(self, arrival):
        """Refuse one tenant, narrow the others."""
        self.told.append("gate")
        if arrival.caller.tenant == "globex":
            raise ServiceError(Reason.PERMISSION_DENIED, "Not today.")
        arrival.context = replace(arrival.caller, principal="narrowed")

    @asynccontextmanager
    async def place(self, arrival):
        """Around the handler; fails at its end where the key says so."""
        self.told.append("in")
        try:
            yield
        finally:
            self.told.append("out")

    def observe(self, arrival, end):
        """Remember how it ended."""
        self.ends.append((arrival, end))


@pytest.fixture
async def world():
    """The parts, behind a real server."""
    made = World()
    door = Door(
        SealedContext(SEAL),
        Counts(),
        calls_at_once=5,
        gates=(made.gate,),
        places=(made.place,),
        observers=(made.observe,),
    )
    server = new_server(door)
    state_pb2_grpc.add_StateServiceServicer_to_server(State(made.told), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        made.state = state_pb2_grpc.StateServiceStub(channel)
        yield made
    await server.stop(0)


def sealed(tenant):
    """Metadata of a caller."""
    context = CallContext(tenant=tenant, principal="key", permissions=("state.read",))
    return ((METADATA_KEY, SEAL.seal(context, lifetime_s=60)),)


async def ask(world, tenant, key="k"):
    """One call."""
    return await world.state.GetState(
        state_pb2.GetStateRequest(scope="global", key=key), metadata=sealed(tenant)
    )


async def test_a_call_passes_them_in_order(world):
    """A gate, then the place around the handler, which sees the narrowed caller."""
    await ask(world, "acme")
    assert world.told == ["gate", "in", "handler for narrowed", "out"]
    ((arrival, end),) = world.ends
    assert (end.error, end.is_cancelled) == (None, False)
    assert arrival.peer.startswith("ipv4:127.0.0.1")
    assert arrival.request_bytes > 0 < arrival.response_bytes


async def test_a_refused_call_takes_no_place_and_is_seen(world):
    """What a gate refuses never reaches the handler; whoever observes hears why and of whom."""
    with pytest.raises(grpc.aio.AioRpcError, match="Not today"):
        await ask(world, "globex")
    assert world.told == ["gate"]
    ((arrival, end),) = world.ends
    assert end.error.reason == Reason.PERMISSION_DENIED
    assert arrival.caller.tenant == "globex"


async def test_a_stranger_is_seen_too(world):
    """A call without a context ends before any gate, and is observed."""
    with pytest.raises(grpc.aio.AioRpcError):
        await world.state.GetState(state_pb2.GetStateRequest())
    ((arrival, end),) = world.ends
    assert arrival.context is None
    assert end.error.reason == Reason.CONTEXT_INVALID
    assert world.told == []


async def test_a_place_is_left_when_the_handler_fails(world):
    """A failure gives back what was held."""
    with pytest.raises(grpc.aio.AioRpcError, match="not there"):
        await ask(world, "acme", "bad")
    assert world.told[-1] == "out"
    assert world.ends[0][1].error.reason == Reason.ITEM_NOT_FOUND
