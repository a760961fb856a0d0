"""Live and ready: what grpc.health.v1 tells while something is missing, and at the end."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from llmspell.v1 import process_pb2, process_pb2_grpc, state_pb2, state_pb2_grpc

from services.common import server as serving
from services.common import vitals as vitals_module
from services.common.clock import SystemClock
from services.common.door import SealedContext
from services.common.healthcheck import main
from services.common.process import SERVICE as PROCESS_SERVICE
from services.common.process import ProcessServicer
from services.common.server import Parts
from services.common.settings import DeploymentSettings
from services.common.vitals import READY, Readiness, Vitals
from tests.servers import GET, SEAL, sealed

STATE_SERVICE = "llmspell.v1.StateService"
STATUS = health_pb2.HealthCheckResponse.ServingStatus.Name


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    """Processes look often."""
    monkeypatch.setattr(vitals_module, "_EVERY_S", 0.05)


class World:
    """A process that depends on another, which a test takes away."""

    def __init__(self, address):
        self.address = address
        self.there = True
        self.loading = ""
        self.stop = asyncio.Event()

    async def is_there(self):
        """Whether the other answers."""
        return self.there

    async def health(self, service):
        """What it says of a service."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        return STATUS(answer.status)

    async def until(self, service, status):
        """Wait until it says so."""
        async with asyncio.timeout(5):
            while await self.health(service) != status:  # noqa: ASYNC110  (another's change)
                await asyncio.sleep(0.02)


class Echo(state_pb2_grpc.StateServiceServicer):
    """Answers after a moment."""

    async def GetState(self, request, context):  # noqa: N802
        """The length of the key."""
        await asyncio.sleep(0.05)
        return state_pb2.GetStateResponse(revision=len(request.key))


@asynccontextmanager
async def running(tmp_path, *, lame_duck_s=0.01):
    """A process's server, as `common.server` runs it."""
    world = World(f"unix:{tmp_path}/p.sock")
    readiness = Readiness(
        {"state": world.is_there}, {STATE_SERVICE: "state"}, parts=(lambda: world.loading,)
    )
    vitals = Vitals("gateway", readiness=readiness)

    def register(server):
        state_pb2_grpc.add_StateServiceServicer_to_server(Echo(), server)
        process = ProcessServicer(vitals, SystemClock())
        process_pb2_grpc.add_ProcessServiceServicer_to_server(process, server)

    async def close():
        """Nothing is open."""

    parts = Parts(
        listen=world.address,
        door=vitals.door(SealedContext(SEAL), calls_at_once=50),
        register=register,
        services=(STATE_SERVICE, PROCESS_SERVICE),
        reflection=False,
        close=close,
        vitals=vitals,
    )
    times = DeploymentSettings(drain_s=1, lame_duck_s=lame_duck_s)
    task = asyncio.create_task(serving._serve(parts, world.stop, times))
    async with asyncio.timeout(5):
        while not (tmp_path / "p.sock").exists():  # noqa: ASYNC110  (likewise)
            await asyncio.sleep(0.01)
    world.task = task
    yield world
    world.stop.set()
    await task


async def test_a_process_without_what_it_needs_is_live_and_not_ready(tmp_path):
    """Its own services serve, those of the missing one do not, and it says why; then it is back."""
    async with running(tmp_path) as world:
        await world.until(READY, "SERVING")
        assert await world.health(STATE_SERVICE) == "SERVING"
        world.there = False
        await world.until(READY, "NOT_SERVING")
        assert await world.health("") == "SERVING"
        assert await world.health(STATE_SERVICE) == "NOT_SERVING"
        assert await world.health(PROCESS_SERVICE) == "SERVING"
        async with grpc.aio.insecure_channel(world.address) as channel:
            stub = process_pb2_grpc.ProcessServiceStub(channel)
            [own] = (
                await stub.GetProcessStatus(
                    process_pb2.GetProcessStatusRequest(), metadata=sealed()
                )
            ).processes
        assert not own.ready
        assert list(own.not_ready_reasons) == ["the state process does not answer"]
        world.there = True
        await world.until(READY, "SERVING")


async def test_what_still_loads_is_not_ready(tmp_path):
    """A part that is not ready yet says why."""
    async with running(tmp_path) as world:
        world.loading = "the index loads"
        await world.until(READY, "NOT_SERVING")
        assert await world.health("") == "SERVING"
        world.loading = ""
        await world.until(READY, "SERVING")


async def test_one_that_is_busy_is_not_away():
    """A single answer that is missed changes nothing."""
    answers = iter([True, False, True, False, False])

    async def is_there():
        return next(answers)

    readiness = Readiness({"state": is_there})
    seen = []
    for _ in range(5):
        await readiness.look()
        seen.append(readiness.is_ready)
    assert seen == [True, True, True, True, False]


async def test_nothing_is_ready_before_it_was_looked_at():
    """A process that has just started does not know yet."""

    async def is_there():
        return True

    readiness = Readiness({"state": is_there})
    assert not readiness.is_ready
    assert not readiness.is_there("state")


async def test_a_process_that_leaves_serves_on_for_a_while(tmp_path):
    """Health says at once that no more should come; what comes all the same is still answered."""
    async with running(tmp_path, lame_duck_s=0.6) as world:
        await world.until(READY, "SERVING")
        async with grpc.aio.insecure_channel(world.address) as channel:
            get = channel.unary_unary(GET, state_pb2.GetStateRequest.SerializeToString)
            world.stop.set()
            await world.until(READY, "NOT_SERVING")
            assert await world.health(STATE_SERVICE) == "NOT_SERVING"
            for _ in range(5):
                await get(state_pb2.GetStateRequest(key="k"), metadata=sealed(), timeout=5)
            assert not world.task.done()
            await asyncio.wait_for(world.task, 5)
            with pytest.raises(grpc.aio.AioRpcError):
                await get(state_pb2.GetStateRequest(key="k"), metadata=sealed(), timeout=1)


async def test_the_health_check_asks_for_either(tmp_path, capsys):
    """--ready is 1 while something is missing; without it the process is well."""
    async with running(tmp_path) as world:
        world.there = False
        await world.until(READY, "NOT_SERVING")
        address = world.address
        assert await asyncio.to_thread(main, [address]) == 0
        assert await asyncio.to_thread(main, ["--ready", address]) == 1
        assert capsys.readouterr().out.splitlines() == [
            f"{address} SERVING",
            f"{address} NOT_SERVING",
        ]
        assert await asyncio.to_thread(main, ["--ready"]) == 2
        assert await asyncio.to_thread(main, ["--live", address]) == 2
