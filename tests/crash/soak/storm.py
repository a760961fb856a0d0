"""A soak: clients of two tenants, fault after fault, and what must hold all the while."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import grpc
from llmspell.aio import AsyncClient
from llmspell.v1 import (
    execution_pb2_grpc,
    script_pb2,
    script_pb2_grpc,
    state_pb2,
    tool_pb2,
    tool_pb2_grpc,
    vector_pb2,
    vector_pb2_grpc,
    workflow_pb2_grpc,
)

from services.common.limits import WORKFLOW_LEASE_SECONDS
from services.common.relay import CHANNEL_OPTIONS
from tests.crash.ledgers.followers import Subscriber, Watcher
from tests.crash.ledgers.items import Counter
from tests.crash.ledgers.ledger import TENANTS, Ledger, Stubs, UnknownError
from tests.crash.soak.clients import Artifacts, Events, Items, Library, Prying, Sessions
from tests.crash.soak.plan import Fault, faults
from tests.crash.soak.runs import Scripts, Workflows, storm
from tests.crash.soak.vectors import Vectors
from tests.crash.soak.vitals import Vitals
from tests.crash.soak.weather import Weather
from tests.crash.soak.witness import CALL_S, RETRYABLE, Seen, Witness
from tests.crash.state_clients import check_counter
from tests.integration.apart import Apart

KINDS = (Items, Sessions, Artifacts, Events, Vectors, Scripts, Workflows, Library, Prying)
CLIENTS = 4
"""Half of them of each tenant."""
PACE_S = 0.15
"""Between two calls of a ledger, on average."""
KILLING_SHARE = 0.4
"""Of the time processes are killed; from then on they live, and their memory is looked at."""
WARM_SHARE = 0.2
"""Of the time, after the last kill, memory may grow."""
LATE_S = 2.0
"""After its deadline, at most, a call has ended; clients and four processes share the machine."""
BACK_S = 5.0
"""After a fault, at most, all is served."""
STARTED_S = 15.0
"""Likewise after a kill: the process starts within it."""
TRAFFIC_MIN = 20
"""Calls answered between two faults."""
MUSTER_EVERY = 5
"""After so many faults all that is known is compared with all that is there."""
OPTIONS = (*CHANNEL_OPTIONS, ("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 500))
"""Nothing is repeated but by a ledger, which knows whether it may be."""
PROBE_S = 1.0
PROBE = """
local ok, failure = pcall(function() State.load("custom:probe", "k") RAG.get_stats() end)
return ok and "well" or failure.reason
"""


class AllStubs(Stubs):
    """Those of state, and of the others."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self.vectors = vector_pb2_grpc.VectorServiceStub(channel)
        self.scripts = script_pb2_grpc.ScriptServiceStub(channel)
        self.tools = tool_pb2_grpc.ToolServiceStub(channel)
        self.workflows = workflow_pb2_grpc.WorkflowServiceStub(channel)
        self.executions = execution_pb2_grpc.ExecutionServiceStub(channel)


class Runner:
    """Lets a ledger call, again and again."""

    def __init__(self, ledger: Ledger, stubs: Stubs, weather: Weather) -> None:
        self.ledger, self.stubs, self._weather = ledger, stubs, weather
        self._pace = random.Random(f"{type(ledger).__name__} {ledger.number}")
        self.turn = asyncio.Lock()
        """Whoever has it may look at what the ledger knows."""

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop."""
        while not stop.is_set():
            async with self.turn:
                await self.step()
            await asyncio.sleep(self._pace.expovariate(1 / PACE_S))

    async def step(self) -> None:
        """One call; where nobody knows what became of it, that is looked up once all is well."""
        try:
            await self.ledger.rng.choice(self.ledger.works())(self.stubs)
        except UnknownError:
            await self.settle()

    async def settle(self) -> None:
        """Know again."""
        while True:
            await self._weather.settled()
            try:
                await self.ledger.check(self.stubs)
            except UnknownError:
                continue
            return


class Soak:
    """One run of it."""

    def __init__(self, up: Apart, *, seed: int, seconds: float, patience: float = 1.0) -> None:
        """`patience`: how much longer than asked things may take, on a slow machine."""
        self.up, self.seed, self.seconds, self.patience = up, seed, seconds, patience
        chance = random.Random(f"secrets {seed}")
        self.secrets = {tenant: f"secret-{chance.getrandbits(64):016x}" for tenant in TENANTS}
        planted = {tenant: text.encode() for tenant, text in self.secrets.items()}
        self.seen = Seen(planted, LATE_S * patience)
        self.weather, self.vitals = Weather(up, self._bad_scripts), Vitals(up)
        self.counters = {tenant: Counter() for tenant in TENANTS}
        self.watchers = {tenant: Watcher(tenant) for tenant in TENANTS}
        self.subscribers = {tenant: Subscriber(tenant) for tenant in TENANTS}
        self.stubs: dict[str, AllStubs] = {}
        self.libraries: dict[str, AsyncClient] = {}
        self.runners: list[Runner] = []
        self.followers: list[asyncio.Task[None]] = []
        self.lived: list[Fault] = []
        self.musters = 0
        self.quiet_from = 0.0
        """The moment from which memory is looked at."""

    async def run(self) -> None:
        """All of it.

        Raises:
            ExceptionGroup: something did not hold.
        """
        async with self._channels():
            self._gather()
            await self._prepare()
            try:
                await self._all_at_once()
                await self._muster()
                for ledger in self.of(Workflows):
                    await self._repeated(partial(ledger.check, self.stubs[ledger.tenant]))
            finally:
                for task in self.followers:
                    task.cancel()
        self._check_secrets()

    async def _all_at_once(self) -> None:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self.vitals.run())
            for runner in self.runners:
                tasks.create_task(runner.run(stop))
            await self._storm()
            stop.set()
            for ledger in self.of(Workflows):
                ledger.gives_up = self.seconds < WORKFLOW_LEASE_SECONDS
            watching.cancel()

    # Who calls

    @asynccontextmanager
    async def _channels(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            trust = grpc.ssl_channel_credentials(self.up.ca_file.read_bytes())
            for tenant in TENANTS:
                there = grpc.aio.secure_channel(self.up.address, trust, options=OPTIONS)
                channel = await stack.enter_async_context(there)
                witness = Witness(channel, tenant, self.up.keys[tenant], self.seen)
                self.stubs[tenant] = AllStubs(witness)
                library = AsyncClient(
                    self.up.address,
                    self.up.keys[tenant],
                    ca_file=self.up.ca_file,
                    timeout_s=CALL_S,
                )
                self.libraries[tenant] = await stack.enter_async_context(library)
            yield

    def _gather(self) -> None:
        for number in range(CLIENTS):
            for ledger in self._ledgers(number):
                ledger.secret = self.secrets[ledger.tenant]
                stubs = self.stubs[ledger.tenant]
                self.runners.append(Runner(ledger, stubs, self.weather))

    def _ledgers(self, number: int) -> Iterator[Ledger]:
        tenant = TENANTS[number % 2]
        more = {
            Items: {"counter": self.counters[tenant]},
            Library: {"client": self.libraries[tenant]},
        }
        for kind in KINDS:
            chance = random.Random(f"{self.seed} {number} {kind.__name__}")
            yield kind(number, tenant, chance, **more.get(kind, {}))

    def of(self, kind: type) -> list[Any]:
        """All ledgers of a kind."""
        return [each.ledger for each in self.runners if isinstance(each.ledger, kind)]

    async def _prepare(self) -> None:
        for ledger in self.of(Vectors):
            await ledger.create(self.stubs[ledger.tenant])
        await self._compare()
        self._follow()

    def _follow(self) -> None:
        for tenant, stubs in self.stubs.items():
            for each in (self.watchers[tenant], self.subscribers[tenant]):
                self.followers.append(asyncio.create_task(_followed(each, stubs)))

    async def _unfollow(self) -> None:
        for task in self.followers:
            task.cancel()
        for ended in await asyncio.gather(*self.followers, return_exceptions=True):
            if not isinstance(ended, asyncio.CancelledError):
                raise ended
        self.followers.clear()

    # What happens

    async def _storm(self) -> None:
        began = time.monotonic()
        await self._strike_until(began + KILLING_SHARE * self.seconds, kills=True)
        self.quiet_from = time.monotonic() + WARM_SHARE * self.seconds
        await self._strike_until(began + self.seconds, kills=False)

    async def _strike_until(self, end: float, *, kills: bool) -> None:
        for number, fault in enumerate(faults(self.seed, kills=kills), 1):
            if time.monotonic() > end:
                return
            await self._traffic(fault.pause_s)
            await self._strike(fault)
            if number % MUSTER_EVERY == 0:
                await self._muster()

    async def _traffic(self, pause_s: float) -> None:
        """All is well for a while, and calls are answered: no fault may meet silence."""
        enough = self.seen.answered.total() + TRAFFIC_MIN
        end = time.monotonic() + self.patience * 10 * BACK_S
        await asyncio.sleep(pause_s)
        while self.seen.answered.total() < enough:
            assert time.monotonic() < end, "too few calls are answered though all is well"
            await asyncio.sleep(0.05)

    async def _strike(self, fault: Fault) -> None:
        took_s = await self.weather.strike(fault, self._served)
        self.lived.append(fault)
        bound_s = self.patience * (STARTED_S if fault.kind == "kill" else BACK_S)
        assert took_s < bound_s, f"{took_s:.1f} s after {fault} all is served again"

    async def _bad_scripts(self) -> None:
        """Of one tenant and the other in turn."""
        await storm(self.stubs[TENANTS[self.weather.counts["storm"] % 2]])

    async def _served(self) -> None:
        """Every process answers every tenant, and the runtime reaches what its scripts need."""
        end = time.monotonic() + self.patience * 2 * STARTED_S
        for stubs in self.stubs.values():
            while not await self._serves(stubs):
                assert time.monotonic() < end, "it is not served again"
                await asyncio.sleep(0.05)

    async def _serves(self, stubs: AllStubs) -> bool:
        request = state_pb2.SetStateRequest(scope="custom:probe", key="k")
        request.value.text = "well"
        script = script_pb2.RunScriptRequest(source=PROBE)
        try:
            await stubs.state.SetState(request, timeout=PROBE_S)
            await stubs.vectors.ListCollections(
                vector_pb2.ListCollectionsRequest(), timeout=PROBE_S
            )
            await stubs.tools.ListTools(tool_pb2.ListToolsRequest(), timeout=PROBE_S)
            told = [each async for each in stubs.scripts.RunScript(script, timeout=3 * PROBE_S)]
        except UnknownError:
            return False
        word = json.loads(told[-1].result.json)
        assert word in RETRYABLE | {"well"}, word
        return word == "well"

    # What must hold

    async def _muster(self) -> None:
        """Everybody stands still, and all that is known is compared with all that is there."""
        standing = [each for each in self.runners if not isinstance(each.ledger, Workflows)]
        async with AsyncExitStack() as stack:
            for runner in standing:
                await stack.enter_async_context(runner.turn)
            await self._unfollow()
            await self._repeated(self._compare)
            self.musters += 1
            self._follow()

    async def _repeated(self, check: Callable[[], Awaitable[None]]) -> None:
        for tried in range(3):
            try:
                await check()
            except UnknownError:
                assert tried < 2, "nothing is broken, and still calls fail"
            else:
                return

    async def _compare(self) -> None:
        for runner in self.runners:
            if not isinstance(runner.ledger, Workflows):
                await runner.ledger.check(runner.stubs)
        for tenant, stubs in self.stubs.items():
            await check_counter(stubs, tenant, self.counters[tenant])
            watcher, subscriber = self.watchers[tenant], self.subscribers[tenant]
            await watcher.catch_up(stubs)
            watcher.check(each for each in self.of(Items) if each.tenant == tenant)
            await subscriber.catch_up(stubs)
            mine = [each for each in self.of(Events) if each.tenant == tenant]
            for ledger in mine:
                ledger.seen(subscriber.seen[ledger.number])
            strange = subscriber.seen.keys() - {each.number for each in mine}
            assert not strange, f"{tenant} sees events of clients {strange}"

    def _check_secrets(self) -> None:
        for tenant in TENANTS:
            assert self.seen.own[tenant], f"no answer held what {tenant} has itself"


async def _followed(follower: Any, stubs: Stubs) -> None:
    while True:
        await follower.run(stubs)
        await asyncio.sleep(0.1)
