"""What a tenant's runs may take together in a minute."""

import pytest

from services.common.errors import Reason, ServiceError
from services.runtime.budgets import Budget, Budgets
from services.runtime.pool import WorkerPool
from services.runtime.runs import RunLimits, RunSpec, run_script
from tests.unit.runtime.running import Host


class Time:
    """A clock that a test moves."""

    now = 50.0

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def budgets(time):
    return Budgets(Budget(cpu_s=60.0, calls=100, output_bytes=1000), monotonic=time)


@pytest.mark.parametrize(("name", "limit"), [("cpu_s", 60), ("calls", 100), ("output_bytes", 1000)])
def test_what_is_used_up_is_named(budgets, time, name, limit):
    """Up to the budget all is well; beyond it the error says of what, how much, and until when."""
    budgets.spend("a", **{name: limit})
    budgets.check("a")
    budgets.spend("a", **{name: limit / 2})
    with pytest.raises(ServiceError) as caught:
        budgets.check("a")
    assert caught.value.reason == Reason.RUN_TENANT_LIMIT
    assert caught.value.metadata == {"field": name, "limit": str(limit), "retry_after_s": "30.0"}
    budgets.check("b")
    Budgets(Budget(**{name: 0})).check("a")
    time.now += 31
    budgets.check("a")


def test_a_budget_fills_evenly_and_no_further(budgets, time):
    """After an hour there is one minute's worth, not sixty."""
    budgets.spend("a", calls=100)
    time.now += 3600
    budgets.spend("a", calls=100)
    budgets.check("a")
    budgets.spend("a", calls=1)
    with pytest.raises(ServiceError):
        budgets.check("a")


def test_tenants_long_gone_are_forgotten(budgets, time, monkeypatch):
    """Nothing grows with the tenants that were ever there."""
    monkeypatch.setattr("services.runtime.budgets._TENANTS_KEPT", 100)
    for number in range(1000):
        budgets.spend(f"t{number}", calls=1)
        time.now += 2
    assert len(budgets._spent) < 200


async def ended(pool, source, tenant="a", **limits):
    """The reason a run ended for; None: well."""
    spec = RunSpec(source, limits=RunLimits(**limits), tenant=tenant)
    try:
        async for _ in run_script(pool, spec, Host()):
            pass
    except ServiceError as error:
        return error.reason, error.metadata.get("field")
    return None


@pytest.mark.parametrize(
    ("budget", "source", "field"),
    [
        ({"calls": 10}, "for i = 1, 50 do State.set('k', i) end", "calls"),
        (
            {"output_bytes": 100},
            "for i = 1, 50 do print('twenty bytes of text') end",
            "output_bytes",
        ),
    ],
)
async def test_a_run_stops_where_the_tenant_has_no_more(budget, source, field):
    """In the middle of a run, and before the next; another tenant's is not touched."""
    async with WorkerPool(budget=Budget(**budget)) as pool:
        assert await ended(pool, source) == (Reason.RUN_TENANT_LIMIT, field)
        assert await ended(pool, "return 1") == (Reason.RUN_TENANT_LIMIT, field)
        assert await ended(pool, "State.set('k', 1) print(1)", tenant="b") is None


async def test_processor_time_of_all_runs_counts(pool_of_little_time):
    """Each run is within its own limit; together they are not within the tenant's."""
    told = [await ended(pool_of_little_time, "for i = 1, 3e7 do end") for _ in range(6)]
    assert told[0] is None
    assert told[-1] == (Reason.RUN_TENANT_LIMIT, "cpu_s")
    assert await ended(pool_of_little_time, "return 1", tenant="b") is None


@pytest.fixture
async def pool_of_little_time():
    async with WorkerPool(budget=Budget(cpu_s=0.05)) as pool:
        yield pool
