"""Every state engine, against all that the Protocol promises."""

import pytest

from services.common.clock import FakeClock
from services.state.engine import ENGINES, open_engine
from services.state.items import Items
from services.state.step import Keeper
from tests.contract import state_suite
from tests.state_engines import sealing_ring


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=sorted(ENGINES))
def name(request):
    return request.param


@pytest.fixture(params=["sealed", "plain"])
async def engine(request, name, tmp_path, clock):
    cipher = sealing_ring(clock) if request.param == "sealed" else None
    store = open_engine(name, tmp_path / "state", on_fatal=pytest.fail, cipher=cipher)
    engine = Items(Keeper(store, clock=clock))
    yield engine
    await engine.close()


@pytest.mark.parametrize("claim", state_suite.CLAIMS, ids=lambda claim: claim.__name__)
async def test_engine_keeps_the_promise(claim, engine, clock):
    """Each claim of the suite holds for each engine, with encryption and without."""
    await claim(engine, clock)


def test_suite_has_every_claim():
    """No function of the suite that takes an engine and a clock is left out of CLAIMS."""
    claims = {
        name
        for name, value in vars(state_suite).items()
        if getattr(value, "__annotations__", {}).keys() == {"engine", "clock", "return"}
    }
    assert claims == {claim.__name__ for claim in state_suite.CLAIMS}
