"""The ledger over the embedded store: what is held, what is spent, and what a crash leaves."""

import asyncio
import dataclasses

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.common.tenants import TenantLimits, TenantRecord
from services.runtime.money.ledger import Ledger
from services.runtime.money.model import NANO, Purse
from services.runtime.money.periods import Period
from services.runtime.money.tally import BudgetKey, Tally
from services.runtime.providers.model import Usage
from tests.state_engines import embedded_keeper
from tests.unit.runtime.money_world import DirectState, account, ledger, wish

TENANT_MONTH = BudgetKey("tenant", Period.MONTH)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def state(tmp_path, clock):
    keeper = embedded_keeper(tmp_path, clock, sync=False)
    yield DirectState(keeper)
    keeper.engine.close()


@pytest.fixture
def first(state, clock):
    return ledger(state, clock, "one")


def written(tokens):
    """A call that wrote so many tokens."""
    return Usage(output_tokens=tokens)


async def budget(book, dollars, key=TENANT_MONTH, tenant="acme", tokens=0):
    """Set a budget of so many dollars."""
    return await book.set_budget(tenant, key, nano=dollars * NANO, tokens=tokens)


async def refused(call):
    """The error that it is refused with."""
    with pytest.raises(ServiceError) as caught:
        await call
    assert caught.value.reason == Reason.BUDGET_EXHAUSTED
    return caught.value


async def spent_usd(book, tenant="acme"):
    """US dollars spent of the one budget."""
    (tally,) = await book.budgets(tenant)
    return tally.purse.spent.nano / NANO


async def test_what_is_held_and_spent_is_no_longer_there(first):
    """A reservation takes what a call may cost, settling what it did cost, releasing nothing."""
    await budget(first, 10)
    held = await first.reserve(account(), wish(6))
    await refused(first.reserve(account(), wish(5)))
    spent = await held.settle(written(2))
    assert (spent.output_tokens, spent.cost_usd, spent.estimated) == (2, 2.0, False)
    held = await first.reserve(account(), wish(8))
    held.release()
    held.release()
    await (await first.reserve(account(), wish(8))).settle(written(8))
    error = await refused(first.reserve(account(), wish(1)))
    assert error.metadata["budget"] == "tenant/month"
    assert (error.metadata["limit"], error.metadata["spent"]) == ("10", "10")
    assert error.metadata["unit"] == "USD"


class Told:
    """What the operator says of tenants."""

    def __init__(self):
        self.usd = {}

    async def get(self, tenant):
        limits = TenantLimits(monthly_cost_usd=self.usd.get(tenant, 0.0))
        return TenantRecord(tenant, "", 0, limits=limits)


async def test_the_operators_limit_holds_beside_the_tenants_own(state, clock):
    """At once when it is changed; it is told among the budgets and cannot be taken away."""
    told = Told()
    book = Ledger(state, clock, lane="one", tenants=told)
    await budget(book, 100)
    await (await book.reserve(account(), wish(3))).settle(written(3))
    told.usd["acme"] = 5.0
    error = await refused(book.reserve(account(), wish(3)))
    assert error.metadata["budget"] == "operator/month"
    await book.reserve(account("globex"), wish(50))
    budgets = {str(tally.budget): tally.purse.limit_nano for tally in await book.budgets("acme")}
    assert budgets == {"operator/month": 5 * NANO, "tenant/month": 100 * NANO}
    held = await book.reserve(account(), wish(2))
    held.release()
    told.usd["acme"] = 0.0
    await book.reserve(account(), wish(50))
    assert len(await book.budgets("acme")) == 1


async def test_budgets_of_tokens(first):
    """Tokens read and written count, whatever they cost."""
    await budget(first, 0, tokens=100)
    held = await first.reserve(account(), wish(50, price=None, input_tokens=40))
    error = await refused(first.reserve(account(), wish(11, price=None)))
    assert (error.metadata["unit"], error.metadata["limit"]) == ("tokens", "100")
    spent = await held.settle(Usage(input_tokens=30, output_tokens=10))
    assert (spent.cost_usd, spent.estimated) == (0.0, True)
    await first.reserve(account(), wish(60, price=None))


async def test_tenants_are_apart(first):
    """What one tenant spends is none of another's budget, and its budgets are not told to it."""
    await budget(first, 5)
    await (await first.reserve(account("globex"), wish(100))).settle(written(100))
    assert await first.budgets("globex") == []
    assert await spent_usd(first) == 0
    await budget(first, 1, tenant="globex")
    await refused(first.reserve(account("globex"), wish(1)))
    await first.reserve(account(), wish(5))


async def test_a_budget_counts_from_the_begin_of_its_period(first, state, clock):
    """What was spent before it was set counts, by this process and by ones before it."""
    await (await first.reserve(account(), wish(3))).settle(written(3))
    second = ledger(state, clock, "two")
    await (await second.reserve(account(), wish(4))).settle(written(4))
    tally = await budget(second, 10)
    assert tally.purse.spent.nano + tally.purse.others.nano == 7 * NANO
    await refused(second.reserve(account(), wish(4)))
    await second.reserve(account(), wish(3))


async def test_days_and_agents(first, clock):
    """An agent's budget of a day is the agent's alone, and whole again on the next day."""
    await budget(first, 2, BudgetKey("agent:writer", Period.DAY))
    writer = account(agent="writer")
    await (await first.reserve(writer, wish(2))).settle(written(2))
    await refused(first.reserve(writer, wish(1)))
    await first.reserve(account(agent="reader"), wish(50))
    clock.advance(24 * 3600)
    await first.reserve(writer, wish(2))


async def test_a_purse_of_the_caller(first):
    """A run's own limit holds, across its calls, where there is no budget at all."""
    purse = Purse.of_usd("run", 3.0)
    held = await first.reserve(account(limits=(purse,)), wish(2))
    error = await refused(first.reserve(account(limits=(purse,)), wish(2)))
    assert error.metadata["budget"] == "run"
    await held.settle(written(1))
    await first.reserve(account(limits=(purse,)), wish(2))


async def test_it_waits_for_what_is_held(first):
    """Where calls under way hold what is needed, a call waits until one gives it back."""
    await budget(first, 10)
    held = await first.reserve(account(), wish(8))
    waiting = asyncio.create_task(first.reserve(account(), wish(5), wait_s=60))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await held.settle(written(1))
    assert (await waiting).output_tokens == 5


async def test_an_answer_is_as_long_as_there_is_money(first):
    """Where there is less than a call might take, it may write less."""
    await budget(first, 10)
    held = await first.reserve(account(), wish(64, least=4))
    assert held.output_tokens == 10
    await held.settle(written(7))
    await refused(first.reserve(account(), wish(64, least=4)))


async def test_a_killed_process_leaves_what_it_claimed(first, state, clock):
    """What was under way at a crash counts as spent until the period ends."""
    await budget(first, 10)
    await (await first.reserve(account(), wish(2))).settle(written(2))
    await first.reserve(account(), wish(3))
    after = ledger(state, clock, "two")
    error = await refused(after.reserve(account(), wish(6)))
    assert float(error.metadata["reserved"]) + float(error.metadata["spent"]) >= 5
    clock.advance(40 * 24 * 3600)
    await after.reserve(account(), wish(10))


async def test_an_orderly_end_leaves_nothing(first, state, clock):
    """A process that is closed lets go of what it had claimed."""
    await budget(first, 10)
    await (await first.reserve(account(), wish(2))).settle(written(2))
    await first.close()
    await ledger(state, clock, "two").reserve(account(), wish(8))


async def test_two_processes_share_a_budget(first, state, clock):
    """However they take turns, together they never hold more than there is."""
    second = ledger(state, clock, "two")
    await budget(first, 40)

    async def spend(book):
        done = 0
        while True:
            try:
                held = await book.reserve(account(), wish(3))
            except ServiceError as error:
                assert error.reason == Reason.BUDGET_EXHAUSTED  # noqa: PT017
                return done
            await asyncio.sleep(0)
            await held.settle(written(2))
            done += 2

    done = await asyncio.gather(*(spend(book) for book in (first, second) for _ in range(4)))
    assert 30 <= sum(done) <= 40
    total = 0
    for book in (first, second):
        (tally,) = await book.budgets("acme")
        total += tally.purse.spent.nano
    assert total == sum(done) * NANO


async def test_a_call_within_the_claim_writes_once(first, state):
    """The first reservation is written; after it a call has one write, when it is settled."""
    await budget(first, 100)
    await (await first.reserve(account(), wish(2))).settle(written(2))
    state.calls.clear()
    await (await first.reserve(account(), wish(2))).settle(written(1))
    assert state.calls == ["BatchState"]


async def test_calls_that_end_together_share_a_write(first, state):
    """A hundred at once are a few writes, not a hundred."""
    holds = [await first.reserve(account(), wish(1)) for _ in range(100)]
    state.calls.clear()
    await asyncio.gather(*(held.settle(written(1)) for held in holds))
    assert state.calls.count("BatchState") <= 3


async def test_state_is_away(first, state, monkeypatch):
    """Nothing is reserved that cannot be written; what was spent meanwhile is written later."""
    await budget(first, 10)
    held = await first.reserve(account(), wish(2))
    state.is_away = True
    spent = await held.settle(written(2))
    assert spent.cost_usd == 2.0
    with pytest.raises(ServiceError) as caught:
        await first.reserve(account(), wish(8))
    assert caught.value.reason == Reason.SERVICE_UNAVAILABLE
    state.is_away = False
    await first.written("acme")
    second = ledger(state, FakeClock(), "two")
    assert (await second.budgets("acme"))[0].purse.others.nano >= 2 * NANO
    await first.close()


async def test_a_purge_leaves_nothing(first, state, clock):
    """All of a tenant's is erased, and what is under way writes nothing after it."""
    await budget(first, 10)
    await budget(first, 5, tenant="globex")
    await (await first.reserve(account(run_id="r1"), wish(1))).settle(written(1))
    held = await first.reserve(account(), wish(1))
    assert await first.purge("acme") == (5, 0)
    await held.settle(written(1))
    other = ledger(state, clock, "two")
    assert await other.budgets("acme") == []
    assert await first.purge("acme") == (0, 0)
    assert len(await other.budgets("globex")) == 1


async def test_a_budget_that_goes_while_a_call_looks_at_it(first, monkeypatch):
    """A reservation that found a budget which was removed meanwhile is made without it."""
    await budget(first, 10)
    book = first._books["acme"]
    find = book.tallies
    gone = [Tally(TENANT_MONTH, "2023-11-14", Purse(name="gone", limit_nano=9 * NANO))]

    async def at_first_gone(*place):
        return [gone.pop()] if gone else await find(*place)

    monkeypatch.setattr(book, "tallies", at_first_gone)
    reservation = await first.reserve(account(), wish(5))
    await reservation.settle(written(5))
    assert await spent_usd(first) == 5


async def test_an_answer_is_settled_when_it_is_on_disk(first, state):
    """Nobody is told of a call that is not in the accounts."""
    held = await first.reserve(account(), wish(1))
    go_on = asyncio.Event()
    state.before["BatchState"] = go_on.wait
    settling = asyncio.create_task(held.settle(written(1)))
    await asyncio.sleep(0.05)
    assert not settling.done()
    go_on.set()
    await settling


async def test_names_without_end(first, state):
    """A model's name that fills a message is cut in the accounts, and stops nothing."""
    long = dataclasses.replace(wish(1), model="mill/" + "x" * 2_000_000)
    await (await first.reserve(account(), long)).settle(written(1))
    assert not first._tasks


async def test_a_changed_and_a_deleted_budget(first):
    """A limit that is raised leaves what was spent; one that is gone holds nobody."""
    await budget(first, 2)
    await (await first.reserve(account(), wish(2))).settle(written(2))
    await refused(first.reserve(account(), wish(1)))
    await budget(first, 3)
    assert await spent_usd(first) == 2
    (await first.reserve(account(), wish(1))).release()
    assert await first.delete_budget("acme", TENANT_MONTH)
    assert not await first.delete_budget("acme", TENANT_MONTH)
    await first.reserve(account(), wish(99))
