"""Whatever several processes reserve, settle, release and lose: no budget is ever overspent."""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.runtime.money.model import NANO
from services.runtime.money.periods import Period
from services.runtime.money.tally import BudgetKey
from services.runtime.providers.model import Usage
from tests.state_engines import memory_keeper
from tests.unit.runtime.money_world import DirectState, account, ledger, wish

TENANT = BudgetKey("tenant", Period.MONTH)
WRITER = BudgetKey("agent:writer", Period.TOTAL)
CALL = st.tuples(st.integers(0, 2), st.sampled_from(["", "writer"]), st.integers(1, 6))


class Processes(RuleBasedStateMachine):
    """Processes that spend one tenant's money; a model answers at the latest before the end."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.state = DirectState(memory_keeper(self.clock))
        self.started = 0
        self.processes = []
        self.open = []
        """(process, agent, most, reservation) of calls under way."""
        self.limits = {TENANT: 0, WRITER: 0}
        self.charged = {TENANT: 0, WRITER: 0}
        """Dollars that the provider has on its bill, calls under way at their most."""

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def charge(self, agent, dollars):
        for key in self.charged:
            if key.concerns(agent):
                self.charged[key] += dollars

    @initialize(tenant=st.integers(5, 40), writer=st.integers(3, 20))
    def begin(self, tenant, writer):
        self.start()
        self.start()
        self.limits = {TENANT: tenant, WRITER: writer}
        for key, dollars in self.limits.items():
            self.run(self.processes[0].set_budget("acme", key, nano=dollars * NANO, tokens=0))

    @precondition(lambda self: len(self.processes) < 3)
    @rule()
    def start(self):
        self.started += 1
        self.processes.append(ledger(self.state, self.clock, f"p{self.started}"))

    @precondition(lambda self: self.processes)
    @rule(calls=st.lists(CALL, max_size=6))
    def reserve(self, calls):
        """Several at once, by several processes."""
        self.run(asyncio.wait_for(self._reserve(calls), 10))

    async def _reserve(self, calls):
        chosen = [self.processes[which % len(self.processes)] for which, _, _ in calls]
        asked = [
            process.reserve(account(agent=agent), wish(most))
            for process, (_, agent, most) in zip(chosen, calls, strict=True)
        ]
        ended = await asyncio.gather(*asked, return_exceptions=True)
        for process, (_, agent, most), reservation in zip(chosen, calls, ended, strict=True):
            if isinstance(reservation, ServiceError):
                assert reservation.reason == Reason.BUDGET_EXHAUSTED
            elif isinstance(reservation, BaseException):
                raise reservation
            else:
                self.open.append((process, agent, most, reservation))
                self.charge(agent, most)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 100), written=st.integers(0, 6))
    def settle(self, which, written):
        """A model has answered, with less than it might."""
        _, agent, most, reservation = self.open.pop(which % len(self.open))
        written = min(written, most)
        self.run(reservation.settle(Usage(output_tokens=written)))
        self.charge(agent, written - most)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 100))
    def release(self, which):
        """It was not even asked."""
        _, agent, most, reservation = self.open.pop(which % len(self.open))
        reservation.release()
        self.charge(agent, -most)

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 2))
    def kill(self, which):
        """A process is lost; the models that it had asked answer all the same, at their most."""
        process = self.processes.pop(which % len(self.processes))
        self.open = [call for call in self.open if call[0] is not process]

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 2))
    def close(self, which):
        """A process ends in order, once its calls are answered."""
        process = self.processes[which % len(self.processes)]
        if not any(call[0] is process for call in self.open):
            self.processes.remove(process)
            self.run(process.close())

    @rule(seconds=st.sampled_from([1, 10]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @invariant()
    def nothing_is_overspent(self):
        for key, limit in self.limits.items():
            assert self.charged[key] <= limit, (str(key), self.charged[key], limit)

    @invariant()
    def what_is_told_is_what_was_charged(self):
        """Spent and reserved are never less than the bill."""
        if self.processes and any(self.limits.values()):
            for tally in self.run(self.processes[0].budgets("acme")):
                assert tally.purse.taken.nano >= self.charged[tally.budget] * NANO

    def teardown(self):
        self.loop.close()


TestProcesses = Processes.TestCase
TestProcesses.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
