"""Token buckets, calls at a time, and the part of the gateway that a tenant may hold."""

import asyncio
from dataclasses import dataclass, field

import pytest
from google.rpc import error_details_pb2, status_pb2

from services.common.access import METHODS
from services.common.clock import FakeClock
from services.common.context import CallContext
from services.common.door import Arrival, End
from services.common.errors import Reason, ServiceError
from services.common.settings import QuotaSettings
from services.common.status import to_trailer
from services.common.telemetry import Counts
from services.gateway.quotas import CLASSES, CallClass, Quotas

GET = "/llmspell.v1.StateService/GetState"
SET = "/llmspell.v1.StateService/SetState"
SEARCH = "/llmspell.v1.VectorService/Search"
WATCH = "/llmspell.v1.StateService/WatchState"


@dataclass(frozen=True)
class Limits:
    """As a tenant's record has them."""

    requests_per_minute: int = 0
    concurrent_calls: int = 0
    weight: float = 0


@dataclass(frozen=True)
class Record:
    """A tenant's record."""

    limits: Limits = field(default_factory=Limits)


class World:
    """Quotas with a clock of the test's own."""

    def __init__(self, places=256, **settings):
        self.clock = FakeClock()
        self.counts = Counts()
        self.records = {}
        self.quotas = Quotas(
            QuotaSettings(**settings),
            self.limits_of,
            self.counts,
            places=places,
            monotonic=self.clock.monotonic,
        )

    async def limits_of(self, tenant):
        """A tenant's record."""
        return self.records.get(tenant)

    def arrival(self, path=GET, tenant="acme", *, any_tenant=False):
        """A call of a known caller."""
        context = CallContext(
            tenant=tenant, principal="k", permissions=("*",), any_tenant=any_tenant
        )
        return Arrival(path, METHODS[path], (), "id", context)

    async def call(self, path=GET, tenant="acme", **kind):
        """Through the gate; None, or why not."""
        arrival = self.arrival(path, tenant, **kind)
        try:
            await self.quotas.gate(arrival)
        except ServiceError as error:
            self.quotas.observe(arrival, End(error, 0.0))
            return error
        return None

    async def passed(self, count, path=GET, tenant="acme"):
        """How many of so many calls pass."""
        return [await self.call(path, tenant) for _ in range(count)].count(None)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (GET, CallClass.READ),
        (SET, CallClass.WRITE),
        (SEARCH, CallClass.SEARCH),
        ("/llmspell.v1.RagService/RetrieveDocuments", CallClass.SEARCH),
        ("/llmspell.v1.ScriptService/RunScript", CallClass.RUN),
        ("/llmspell.v1.ScriptService/CheckScript", CallClass.RUN),
        ("/llmspell.v1.AgentService/ExecuteAgent", CallClass.RUN),
        ("/llmspell.v1.VectorService/CreateCollection", CallClass.ADMIN),
        ("/llmspell.v1.TenantService/CreateTenant", CallClass.ADMIN),
    ],
)
def test_the_contract_tells_the_class(path, kind):
    """No list of methods is kept by hand, and every method has a class."""
    assert CLASSES[path] is kind
    assert CLASSES.keys() == METHODS.keys()


async def test_without_limits_nothing_is_counted():
    """The default."""
    world = World()
    assert await world.passed(1000) == 1000


async def test_a_bucket_empties_and_fills_evenly():
    """60 a minute: 60 at once, then one a second, never more than 60 after a rest."""
    world = World(requests_per_minute=60)
    assert await world.passed(100) == 60
    world.clock.advance(1.0)
    assert await world.passed(5) == 1
    world.clock.advance(3600)
    assert await world.passed(100) == 60


@pytest.mark.parametrize("limit", [1, 7, 60, 1000, 123_457])
async def test_never_more_than_the_bucket_and_what_came_back(limit):
    """In any time at most what comes back in it and what may come at once; and not fewer."""
    world = World(requests_per_minute=limit)
    passed, elapsed = 0, 0.0
    for step in range(200):
        passed += await world.passed(3)
        world.clock.advance(0.037 * (step % 5))
        elapsed += 0.037 * (step % 5)
    back = limit * elapsed / 60
    assert passed <= back + min(limit, max(100, limit / 12)) + 1e-6
    assert passed >= min(600, back, limit)


async def test_the_refusal_says_what_and_when():
    """Reason, quota, limit and the time; waiting so long is enough, and a bit less is not."""
    world = World(requests_per_minute=6)
    await world.passed(6)
    error = await world.call()
    assert error.reason == Reason.QUOTA_EXCEEDED
    wait_s = float(error.metadata.pop("retry_after_s"))
    assert error.metadata == {"quota": "requests_per_minute", "limit": "6", "tenant_id": "acme"}
    world.clock.advance(wait_s - 0.1)
    assert await world.call() is not None
    world.clock.advance(0.1)
    assert await world.call() is None


async def test_the_status_carries_what_clients_of_grpc_read():
    """RetryInfo with the same time, and QuotaFailure with whose quota which is."""
    world = World(requests_per_minute=6)
    await world.passed(6)
    error = await world.call()
    status = status_pb2.Status.FromString(to_trailer(error)[1])
    retry, failure = error_details_pb2.RetryInfo(), error_details_pb2.QuotaFailure()
    assert status.details[1].Unpack(retry)
    assert status.details[2].Unpack(failure)
    assert retry.retry_delay.ToMilliseconds() == 10_000
    (violation,) = failure.violations
    assert violation.subject == "tenant:acme"
    assert violation.description == "requests_per_minute: at most 6"


async def test_classes_and_tenants_have_their_own():
    """Searches used up leave reads; all of one tenant used up leave another's; both count."""
    world = World(requests_per_minute=10, searches_per_minute=3)
    assert await world.passed(5, SEARCH) == 3
    assert await world.passed(20) == 7
    assert await world.passed(20, tenant="globex") == 10


async def test_a_refused_call_takes_nothing():
    """What the one bucket refuses is not taken out of the other."""
    world = World(requests_per_minute=10, searches_per_minute=3)
    await world.passed(100, SEARCH)
    assert await world.passed(100) == 7


async def test_a_tenants_own_limit_comes_first_and_may_change():
    """What was used stays used: a larger limit gives the difference, a smaller one nothing."""
    world = World(requests_per_minute=10)
    world.records["acme"] = Record(Limits(requests_per_minute=20))
    assert await world.passed(100) == 20
    world.records["acme"] = Record(Limits(requests_per_minute=50))
    assert await world.passed(100) == 30
    world.records["acme"] = Record(Limits(requests_per_minute=5))
    assert await world.passed(100) == 0
    assert await world.passed(100, tenant="globex") == 10


@pytest.mark.parametrize("reason", [Reason.OVERLOADED, Reason.SERVICE_UNAVAILABLE, Reason.INTERNAL])
async def test_what_failed_for_our_reasons_is_given_back(reason):
    """Once, however often its end is told."""
    world = World(requests_per_minute=1)
    arrival = world.arrival()
    await world.quotas.gate(arrival)
    for _ in range(2):
        world.quotas.observe(arrival, End(ServiceError(reason, "We failed."), 0.0))
    assert await world.passed(5) == 1


async def test_the_callers_own_failures_count():
    """A caller cannot have calls for nothing by making mistakes."""
    world = World(requests_per_minute=1)
    arrival = world.arrival()
    await world.quotas.gate(arrival)
    world.quotas.observe(arrival, End(ServiceError(Reason.ITEM_NOT_FOUND, "Gone."), 0.0))
    assert await world.passed(5) == 0


async def test_64_callers_at_the_edge():
    """They get exactly what there is; what fails is given back and the next one gets it."""
    world = World(requests_per_minute=40, concurrent_calls=8)
    most = done = 0

    def fail():
        raise ServiceError(Reason.SERVICE_UNAVAILABLE, "Away.")

    async def caller():
        nonlocal most, done
        arrival = world.arrival()
        for _ in range(50):
            try:
                await world.quotas.gate(arrival)
                async with world.quotas.place(arrival):
                    (calls,) = [
                        u for u in await world.quotas.usage("acme") if u.name.endswith("calls")
                    ]
                    most = max(most, calls.used)
                    await asyncio.sleep(0)
                    done += 1
                    if done % 3 == 0:
                        fail()
                    passed.append(1)
                    return
            except ServiceError as error:
                world.quotas.observe(arrival, End(error, 0.0))
                refused.append(error.reason)
                await asyncio.sleep(0)

    passed, refused = [], []
    await asyncio.gather(*(caller() for _ in range(64)))
    assert most == 8
    assert 0 < len(passed) <= 40
    world.clock.advance(60)
    assert await world.passed(100) == 40
    assert (await world.quotas.usage("acme"))[-2].used == 0


@pytest.mark.parametrize(
    ("path", "held"), [(WATCH, [10, 5, 3, 1]), (GET, [5, 4, 3, 2])], ids=["streams", "calls"]
)
async def test_a_tenant_leaves_room_in_the_gateway(path, held):
    """Never more streams than places are free, nor calls than a third; so a next one gets some."""
    world, reasons = World(places=20), set()

    async def fill(tenant):
        held = []
        while True:
            arrival = world.arrival(path, tenant)
            world.counts.in_flight += 1
            try:
                await world.quotas.gate(arrival)
                place = world.quotas.place(arrival)
                await place.__aenter__()
            except ServiceError as error:
                world.counts.in_flight -= 1
                reasons.add(error.reason)
                return held
            held.append(place)

    assert [len(await fill(f"t{number}")) for number in range(4)] == held
    assert reasons == {Reason.OVERLOADED}


async def test_streams_have_a_limit_of_their_own():
    """And what has ended is free again."""
    world = World(concurrent_streams=2)
    async with world.quotas.place(await _gated(world, WATCH)):
        async with world.quotas.place(await _gated(world, WATCH)):
            error = await world.call(WATCH)
            assert error.metadata["quota"] == "concurrent_streams"
            assert await world.call(GET) is None
        assert await world.call(WATCH) is None


async def _gated(world, path):
    arrival = world.arrival(path)
    await world.quotas.gate(arrival)
    return arrival


async def test_the_operator_is_not_counted():
    """Whoever manages tenants is not locked out by what they use up."""
    world = World(requests_per_minute=1)
    assert [await world.call(any_tenant=True) for _ in range(9)] == [None] * 9
    assert await world.passed(3) == 1


async def test_gateways_divide_the_limits():
    """Three gateways together give out the limit."""
    worlds = [World(requests_per_minute=60, gateways=3, concurrent_calls=1) for _ in range(3)]
    assert [await world.passed(100) for world in worlds] == [20, 20, 20]
    assert worlds[0].quotas._accounts["acme"].most_calls == 1


async def test_idle_accounts_are_forgotten(monkeypatch):
    """Nothing grows with the tenants that were ever seen; who has used something is kept."""
    monkeypatch.setattr("services.gateway.quotas._ACCOUNTS_KEPT", 10)
    world = World(requests_per_minute=2)
    await world.passed(2, tenant="busy")
    world.clock.advance(45)
    for number in range(100):
        await world.call(tenant=f"t{number}")
        world.clock.advance(0.1)
    world.clock.advance(15)
    await world.passed(1, tenant="busy")
    world.clock.advance(60)
    await world.call(tenant="last")
    assert len(world.quotas._accounts) <= 10


@pytest.mark.parametrize("path", [GET, SET, SEARCH, WATCH, "/llmspell.v1.ScriptService/RunScript"])
async def test_without_its_limits_no_call_passes(path):
    """State is away: calls of every class are refused and not counted; then all is as before."""
    world = World(requests_per_minute=2)
    known = world.limits_of

    async def away(_tenant):
        raise ServiceError(Reason.SERVICE_UNAVAILABLE, "Away.")

    world.quotas._limits_of = away
    refused = [await world.call(path) for _ in range(5)]
    assert {error.reason for error in refused} == {Reason.SERVICE_UNAVAILABLE}
    world.quotas._limits_of = known
    assert await world.passed(5, path) == 2
