"""Copies, moves, request ids and the rules of keys, over every engine."""

import pytest

from services.common.clock import FakeClock
from services.state.engine import ENGINES, open_engine
from services.state.items import Items
from services.state.requests import Requests
from services.state.step import Keeper
from services.state.transfers import Transfers
from tests.contract import transfer_suite


@pytest.fixture(params=sorted(ENGINES))
async def stage(request, tmp_path):
    clock = FakeClock()
    store = open_engine(request.param, tmp_path / "state", on_fatal=pytest.fail)
    keeper = Keeper(store, clock=clock)
    items = Items(keeper)
    yield transfer_suite.Stage(keeper, items, Transfers(keeper), Requests(keeper), clock)
    await items.close()


@pytest.mark.parametrize("claim", transfer_suite.CLAIMS, ids=lambda claim: claim.__name__)
async def test_an_engine_keeps_the_promise(claim, stage):
    """Each claim of the suite holds for each engine."""
    await claim(stage)
