"""How long a tenant's things are kept, by its operator's word."""

import msgspec
import pytest

from services.common.clock import FakeClock
from services.common.scopes import SYSTEM_TENANT, TENANTS_SCOPE
from services.common.tenants import CACHE_S, TenantRecord, TenantRetention
from services.state.event_model import NewEvent
from services.state.events import Events
from services.state.items import Items
from services.state.model import Encoding, Value
from services.state.tenant_rules import TenantRules
from tests.state_engines import memory_keeper

DAY_S = 86_400
DAY_NS = DAY_S * 10**9


@pytest.fixture
def world():
    """A clock, a keeper with items, and the rules over it."""
    clock = FakeClock()
    keeper = memory_keeper(clock)
    return clock, keeper, Items(keeper), TenantRules(keeper.engine, clock)


async def say(items, tenant, **retention):
    record = TenantRecord(tenant, "", 0, retention=TenantRetention(**retention))
    value = Value(Encoding.JSON, msgspec.json.encode(record))
    await items.set(SYSTEM_TENANT, TENANTS_SCOPE, tenant, value)


async def test_what_is_not_said_is_the_deployments(world):
    """Of a tenant that is not there too; and more than the deployment's does not count."""
    clock, _, items, rules = world
    assert rules.events_ns("nobody", 7) == 7
    await say(items, "acme", events_s=3600, backups_s=2 * DAY_S)
    await say(items, "globex", events_s=99 * DAY_S, backups_s=99 * DAY_S)
    assert rules.events_ns("acme", DAY_NS) == 3600 * 10**9
    assert rules.events_ns("globex", DAY_NS) == DAY_NS
    assert (rules.backup_days("acme", 30), rules.backup_days("acme", 0)) == (2, 2)
    assert (rules.backup_days("globex", 30), rules.backup_days("nobody", 30)) == (30, 30)
    await say(items, "acme", events_s=60)
    clock.advance(CACHE_S)
    assert rules.events_ns("acme", DAY_NS) == 60 * 10**9


async def test_events_go_when_their_tenants_time_is_over(world):
    """Those of the other tenant stay."""
    clock, keeper, items, rules = world
    events = Events(keeper, age_of=rules.events_ns)
    await say(items, "acme", events_s=60)
    for tenant in ("acme", "globex"):
        await events.publish(tenant, [NewEvent("t", "null")])
    clock.advance(61)
    while await events.sweep():
        pass
    assert (await events.stats("acme")).kept == 0
    assert (await events.stats("globex")).kept == 1
