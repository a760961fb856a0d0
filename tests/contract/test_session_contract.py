"""Every state engine, against all that sessions promise."""

import pytest

from services.common.clock import FakeClock
from services.state.engine import ENGINES, open_engine
from services.state.items import Items
from services.state.session_ends import SessionEnds
from services.state.sessions import Sessions
from services.state.step import Keeper
from tests.contract import session_suite


@pytest.fixture(params=sorted(ENGINES))
async def shop(request, tmp_path):
    clock = FakeClock()
    store = open_engine(request.param, tmp_path / "state", on_fatal=pytest.fail)
    keeper = Keeper(store, clock=clock)
    items = Items(keeper, slice_size=2)
    sessions = Sessions(keeper, slice_size=2)
    yield session_suite.Shop(keeper, clock, items, sessions, SessionEnds(keeper))
    await items.close()


@pytest.mark.parametrize("claim", session_suite.CLAIMS, ids=lambda claim: claim.__name__)
async def test_sessions_keep_the_promise(claim, shop):
    """Each claim of the suite holds over each engine."""
    await claim(shop)


def test_session_suite_has_every_claim():
    """No function of the suite that takes a shop alone is left out of CLAIMS."""
    claims = {
        name
        for name, value in vars(session_suite).items()
        if getattr(value, "__annotations__", {}).keys() == {"shop", "return"}
    }
    assert claims == {claim.__name__ for claim in session_suite.CLAIMS}
