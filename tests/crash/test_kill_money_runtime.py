"""The runtime is killed under agents that spend one tenant's money (T1).

After each kill what was answered is in the accounts, what was under way counts as spent, and the
provider's bill stays within the budget, however often the process that counts is lost.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from llmspell import Client, LLMSpellError
from llmspell.types import AgentLimits, AgentSpec

from tests.crash import scale
from tests.crash.conftest import seed_of
from tests.integration.wired import wired
from tests.models import openai_wire as wire
from tests.models.scripted import Pause

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]
AT_ONCE = 8
ANSWER_USD = 10 * 0.001 + 5 * 0.01
RESERVED_USD = 0.35
"""More than one call reserves: twenty tokens written, and what is read at most."""
TENANT = "killed-money"


class Spenders:
    """Agents that ask again and again, until their budget is gone or they are stopped."""

    def __init__(self, up, spec):
        self.up, self.spec = up, spec
        self.answered = 0
        self.ended = Counter()
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._spend) for _ in range(AT_ONCE)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self._threads:
            thread.join()

    def until_answered(self, more):
        """Wait until so many more answers have come, or all have ended."""
        enough = self.answered + more
        while self.answered < enough and any(thread.is_alive() for thread in self._threads):
            time.sleep(0.002)

    def until_gone(self):
        """Wait until the budget has ended all of them."""
        for thread in self._threads:
            thread.join(120)

    def _spend(self):
        with Client(self.up.address, self.up.keys[TENANT]) as client:
            while not self.stopped.is_set():
                try:
                    client.execute_agent(self.spec, "How much?")
                except LLMSpellError as error:
                    with self._lock:
                        self.ended[error.reason] += 1
                    if error.reason == "BUDGET_EXHAUSTED":
                        return
                    time.sleep(0.05)
                else:
                    with self._lock:
                        self.answered += 1


def test_no_kill_overspends_a_budget(tmp_path, reached):
    """The bill is within the limit, and what is told is no less than the bill."""
    seed, kills = seed_of("LLMSPELL_KILL_SEED"), scale.count(2, 20)
    chance = random.Random(seed)
    limit = 4 + kills * (AT_ONCE + 1) * RESERVED_USD

    def slowly(_request):
        pause = Pause(chance.uniform(0, 0.06))
        return replace(wire.completion(wire.message("So much.")), before=pause)

    with wired(tmp_path) as world:
        model = world.models.behave("paid-killed", slowly)
        world.up.tenant(TENANT)
        spec = AgentSpec(name="killed", model=model, limits=AgentLimits(max_tokens=20))
        with Client(world.up.address, world.up.keys[TENANT]) as client:
            client.set_budget(period="total", limit_usd=limit)
            with Spenders(world.up, spec) as spenders:
                for _ in range(kills):
                    spenders.until_answered(chance.randint(5, 20))
                    time.sleep(chance.uniform(0, 0.05))
                    world.up.kill("runtime")
                spenders.until_gone()
            bill = len(world.models.asked("paid-killed")) * ANSWER_USD
            (budget,) = client.list_budgets()
    told = f"LLMSPELL_KILL_SEED={seed} repeats this: {spenders.ended}, {budget}"
    assert spenders.ended["BUDGET_EXHAUSTED"] == AT_ONCE, told
    assert bill <= limit, told
    assert spenders.answered * ANSWER_USD <= budget.spent_usd + 1e-9, told
    assert budget.spent_usd <= bill + 1e-9, told
    assert bill <= budget.spent_usd + budget.reserved_usd + 1e-9, told
    lost = limit - budget.spent_usd
    assert lost <= kills * (AT_ONCE + 1) * RESERVED_USD + RESERVED_USD, told
    reached(
        "T1",
        f"runtime: {kills} kills -9 under {AT_ONCE} agents with one budget",
        "never overspent, no answer lost",
        f"{spenders.answered} answers told, bill {bill:.2f} of {limit:.2f} USD",
        "claims that lapse; rows written after the answer",
    )
