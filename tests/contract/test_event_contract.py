"""Events over every engine."""

import inspect

import pytest

from services.common.clock import FakeClock
from services.state.engine import ENGINES, open_engine
from services.state.events import Events
from services.state.items import Items
from services.state.step import Keeper
from tests.contract import event_suite


@pytest.fixture(params=sorted(ENGINES))
async def stage(request, tmp_path):
    clock = FakeClock()
    store = open_engine(request.param, tmp_path / "state", on_fatal=pytest.fail)
    keeper = Keeper(store, clock=clock, changes_kept=event_suite.CHANGES_KEPT)
    items = Items(keeper)
    events = Events(keeper, kept=event_suite.KEPT, slice_size=2)
    yield event_suite.Stage(keeper, events, items, clock)
    await items.close()


@pytest.mark.parametrize("claim", event_suite.CLAIMS, ids=lambda claim: claim.__name__)
async def test_events_keep_the_promise(claim, stage):
    """Each claim of the suite holds for each engine."""
    await claim(stage)


def test_suite_has_every_claim():
    """No function of the suite that takes a stage is left out of CLAIMS."""
    claims = {
        name
        for name, value in vars(event_suite).items()
        if inspect.iscoroutinefunction(value)
        and list(inspect.signature(value).parameters) == ["stage"]
    }
    assert claims == {claim.__name__ for claim in event_suite.CLAIMS}
