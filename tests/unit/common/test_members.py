"""Several processes of a kind, over real servers: whose turn a call is, and when none serves."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.common.errors import Reason, ServiceError
from services.common.members import Members, Standing

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TENANTS = [f"tenant{number}" for number in range(40)]


class Process:
    """A server that has a health service and nothing else."""

    def __init__(self, address):
        self.address = address
        self.server = self.health = None

    async def start(self):
        """Serve."""
        self.server, self.health = grpc.aio.server(), health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self.server.add_insecure_port(self.address)
        await self.health.set("", SERVING)
        await self.server.start()

    async def leave(self):
        """Say that no new work is taken."""
        await self.health.set("", NOT_SERVING)

    async def die(self):
        """End at once."""
        await self.server.stop(0)


@asynccontextmanager
async def world(tmp_path, count, **kwargs):
    """Processes, and their members."""
    processes = [Process(f"unix:{tmp_path}/{number}") for number in range(count)]
    for process in processes:
        await process.start()
    members = Members("runtime", ",".join(each.address for each in processes), **kwargs)
    running = asyncio.create_task(members.run())
    try:
        yield processes, members
    finally:
        running.cancel()
        await members.close()
        for process in processes:
            await process.die()


async def homes(members):
    """Where each tenant's calls go."""
    found = [await members.pick(tenant, timeout_s=5) for tenant in TENANTS]
    return {tenant: member.address for tenant, member in zip(TENANTS, found, strict=True)}


async def until(condition):
    """Wait until something holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0.005)


async def all_ready(members):
    """Wait until all serve."""
    await until(lambda: all(member.serves for member in members.all))


async def test_each_tenant_has_a_home_and_all_have_tenants(tmp_path):
    """The same tenant goes to the same process; 40 tenants spread over three."""
    async with world(tmp_path, 3) as (_, members):
        await all_ready(members)
        first = await homes(members)
        assert first == await homes(members)
        assert len(set(first.values())) == 3


async def test_only_tenants_of_the_one_that_left_move(tmp_path):
    """One that is leaving takes no new work, and nobody else's tenants move."""
    async with world(tmp_path, 3) as (processes, members):
        await all_ready(members)
        before = await homes(members)
        await processes[0].leave()
        await until(lambda: any(member.standing is Standing.LEAVING for member in members.all))
        after = await homes(members)
        gone = processes[0].address
        assert gone not in after.values()
        assert {tenant for tenant in TENANTS if before[tenant] != after[tenant]} == {
            tenant for tenant in TENANTS if before[tenant] == gone
        }


async def test_what_goes_on_in_one_that_leaves_is_asked_there(tmp_path):
    """A call with a process's tag goes to it until it has gone."""
    async with world(tmp_path, 2) as (processes, members):
        await all_ready(members)
        home = next(each for each in members.all if each.address == processes[0].address)
        await processes[0].leave()
        await until(lambda: home.standing is Standing.LEAVING)
        assert {(await members.pick(t, home.tag, timeout_s=5)).address for t in TENANTS} == {
            home.address
        }
        await processes[0].die()
        await until(lambda: home.standing is Standing.AWAY)
        assert (await members.pick("acme", home.tag, timeout_s=5)) is not home


async def test_one_that_was_killed_gets_nothing(tmp_path):
    """Its connection is gone, and with it its turn."""
    async with world(tmp_path, 2) as (processes, members):
        await all_ready(members)
        await processes[1].die()
        await until(lambda: [each.serves for each in members.all].count(True) == 1)
        assert set((await homes(members)).values()) == {processes[0].address}


async def test_a_call_waits_for_one_that_is_started_again(tmp_path):
    """Where none serves, a call is answered as soon as one does."""
    async with world(tmp_path, 1) as (processes, members):
        await all_ready(members)
        await processes[0].die()
        await until(lambda: not members.all[0].serves)
        waiting = asyncio.create_task(members.pick("acme", timeout_s=5))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await processes[0].start()
        assert (await waiting).address == processes[0].address


async def test_where_none_comes_back_a_call_is_told(tmp_path):
    """After the wait, and not after the caller's deadline, with the name of what is missing."""
    async with world(tmp_path, 1, wait_s=0.05) as (processes, members):
        await all_ready(members)
        await processes[0].die()
        await until(lambda: not members.all[0].serves)
        with pytest.raises(ServiceError) as told:
            await members.pick("acme", timeout_s=60)
        assert told.value.reason == Reason.SERVICE_UNAVAILABLE
        assert told.value.metadata["service"] == "runtime"


async def test_a_name_stands_for_all_its_addresses(monkeypatch):
    """Each address that a name has is a process, and one that it has no more is let go."""
    found = ["127.0.0.2", "127.0.0.3"]
    members = Members("runtime", "runtime.test:50061")

    async def look(host, port, **_):
        assert (host, port) == ("runtime.test", 50061)
        return [(2, 1, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look)
    monkeypatch.setattr("services.common.members.RESOLVE_S", 0.01)
    running = asyncio.create_task(members.run())
    await until(lambda: len(members.all) == 2)
    found[:] = ["127.0.0.3", "127.0.0.4"]
    await until(lambda: {each.address for each in members.all} == {f"{a}:50061" for a in found})
    running.cancel()
    await members.close()


@pytest.mark.parametrize("addresses", ["", " , ", ",".join(["a:1"] * 65)])
def test_no_address_or_too_many_are_refused(addresses):
    """By the name of what is missing."""
    with pytest.raises(ServiceError) as told:
        Members("runtime", addresses)
    assert told.value.reason == Reason.CONFIG_INVALID
