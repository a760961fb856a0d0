"""Every state engine, against all that sessions promise."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from services.common.clock import FakeClock
from services.state.artifacts import Artifacts
from services.state.blob_seal import BlobSeal
from services.state.blobs import open_blobs
from services.state.engine import ENGINES, open_engine
from services.state.items import Items
from services.state.keyring import Keyring
from services.state.session_ends import SessionEnds
from services.state.sessions import Sessions
from services.state.step import Keeper
from tests.contract import checkpoint_suite, limit_suite, repeat_suite, session_suite
from tests.state_engines import sealing_ring

SUITES = (session_suite, checkpoint_suite, repeat_suite, limit_suite)
CLAIMS = tuple(claim for suite in SUITES for claim in suite.CLAIMS)


@asynccontextmanager
async def opened(engine, folder, ring, clock):
    """Sessions, items and artifacts of one empty store."""
    store = open_engine(engine, folder, on_fatal=pytest.fail, cipher=ring)
    keeper = Keeper(store, clock=clock)
    items = Items(keeper, slice_size=2)
    seal = BlobSeal(store, ring, asyncio.get_running_loop())
    artifacts = Artifacts(keeper, open_blobs(engine, folder, sealing=seal), slice_size=2)
    sessions = Sessions(keeper, slice_size=2, also_erase=(artifacts.delete_scope,))
    ends = SessionEnds(keeper)
    yield session_suite.Shop(keeper, clock, items, sessions, ends, artifacts)
    await artifacts.close()
    await items.close()


@pytest.fixture(params=sorted(ENGINES))
async def shop(request, tmp_path):
    async with opened(request.param, tmp_path / "state", Keyring(), FakeClock()) as shop:
        yield shop


@pytest.fixture
async def sealed_shop(tmp_path):
    clock = FakeClock()
    async with opened("embedded", tmp_path / "state", sealing_ring(clock), clock) as shop:
        yield shop


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
async def test_sessions_keep_the_promise(claim, shop):
    """Each claim of the suite holds over each engine."""
    await claim(shop)


@pytest.mark.parametrize(
    "claim", [*checkpoint_suite.CLAIMS, *repeat_suite.CLAIMS], ids=lambda claim: claim.__name__
)
async def test_sealed_sessions_keep_the_promise(claim, sealed_shop):
    """What touches artifacts and what is remembered holds in a store that is encrypted, too."""
    await claim(sealed_shop)


def test_session_suite_has_every_claim():
    """No function of the suite that takes a shop alone is left out of CLAIMS."""
    claims = {
        name
        for suite in SUITES
        for name, value in vars(suite).items()
        if getattr(value, "__annotations__", {}).keys() == {"shop", "return"}
    }
    assert claims == {claim.__name__ for claim in CLAIMS}
