"""Watches over every engine."""

import pytest

from services.common.clock import FakeClock
from services.state.engine import ENGINES, open_engine
from services.state.items import Items
from services.state.step import Keeper
from services.state.watch import Watches
from tests.contract import watch_suite

CHANGES_KEPT = 10


@pytest.fixture(params=sorted(ENGINES))
async def stage(request, tmp_path):
    clock = FakeClock()
    store = open_engine(request.param, tmp_path / "state", on_fatal=pytest.fail)
    keeper = Keeper(store, clock=clock, changes_kept=CHANGES_KEPT)
    items = Items(keeper)
    yield watch_suite.Stage(keeper, items, Watches(keeper), clock)
    await items.close()


@pytest.mark.parametrize("claim", watch_suite.CLAIMS, ids=lambda claim: claim.__name__)
async def test_a_watch_keeps_the_promise(claim, stage):
    """Each claim of the suite holds for each engine."""
    await claim(stage)
