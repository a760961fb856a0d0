"""Places and lines of tenants, through the gateway of a deployment with few of them."""

import asyncio

import pytest

from tests.integration.attacks import Caller
from tests.integration.deployment import deployed

FEW = (
    ("runtime.runs_at_once", 3),
    ("runtime.tenant_runs_at_once", 2),
    ("runtime.tenant_runs_waiting", 2),
)


@pytest.fixture
def small(tmp_path):
    """Three places, two of them for one tenant, and two runs that may wait."""
    settings = tmp_path / "few.toml"
    lines = [f"{key.partition('.')[2]} = {value}" for key, value in FEW]
    settings.write_text("\n".join(["[runtime]", *lines, ""]))
    with deployed(tmp_path, "--config", str(settings)) as up:
        yield up


def test_a_full_line_is_refused_and_a_neighbour_is_not(small):
    """Of twelve runs two run and two wait; another tenant's is served meanwhile, theirs later."""
    asyncio.run(_full(small))


async def _full(small):
    greedy = Caller(small.address, small.keys["acme"])
    modest = Caller(small.address, small.keys["globex"])
    try:
        held = {asyncio.create_task(greedy.run("while true do end")) for _ in range(12)}
        refused = []
        while len(refused) < 8:
            done, held = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
            refused += [task.result() for task in done]
        assert {outcome.reason for outcome in refused} == {"RUN_QUEUE_FULL"}
        assert {outcome.metadata["limit"] for outcome in refused} == {"2"}
        assert all(float(outcome.metadata["retry_after_s"]) > 0 for outcome in refused)
        assert (await modest.run("return 'served'")).reason == "served"
        for task in held:  # those who wait leave the line, those that run are killed
            task.cancel()
        assert await _served(greedy)
    finally:
        await greedy.close()
        await modest.close()


async def _served(caller):
    """Whether a run is let in, once the cancellations have come through."""
    for _ in range(100):
        outcome = await caller.run("return 'later'")
        if outcome.reason == "later":
            return True
        await asyncio.sleep(0.1)
    return False
