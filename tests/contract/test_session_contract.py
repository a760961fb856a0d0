"""Every state engine, against all that sessions promise."""

import pytest

from services.common.clock import FakeClock
from services.state.artifacts import Artifacts
from services.state.blobs import open_blobs
from services.state.engine import ENGINES, open_engine
from services.state.items import Items
from services.state.session_ends import SessionEnds
from services.state.sessions import Sessions
from services.state.step import Keeper
from tests.contract import checkpoint_suite, limit_suite, repeat_suite, session_suite

SUITES = (session_suite, checkpoint_suite, repeat_suite, limit_suite)
CLAIMS = tuple(claim for suite in SUITES for claim in suite.CLAIMS)


@pytest.fixture(params=sorted(ENGINES))
async def shop(request, tmp_path):
    clock = FakeClock()
    store = open_engine(request.param, tmp_path / "state", on_fatal=pytest.fail)
    keeper = Keeper(store, clock=clock)
    items = Items(keeper, slice_size=2)
    blobs = open_blobs(request.param, tmp_path / "state")
    artifacts = Artifacts(keeper, blobs, slice_size=2)
    sessions = Sessions(keeper, slice_size=2, also_erase=(artifacts.delete_scope,))
    ends = SessionEnds(keeper)
    yield session_suite.Shop(keeper, clock, items, sessions, ends, artifacts)
    await artifacts.close()
    await items.close()


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
async def test_sessions_keep_the_promise(claim, shop):
    """Each claim of the suite holds over each engine."""
    await claim(shop)


def test_session_suite_has_every_claim():
    """No function of the suite that takes a shop alone is left out of CLAIMS."""
    claims = {
        name
        for suite in SUITES
        for name, value in vars(suite).items()
        if getattr(value, "__annotations__", {}).keys() == {"shop", "return"}
    }
    assert claims == {claim.__name__ for claim in CLAIMS}
