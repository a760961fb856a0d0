"""Artifacts over every state engine, against all that they promise."""

import asyncio

import pytest

from services.common.clock import FakeClock
from services.state.artifacts import Artifacts
from services.state.blob_seal import BlobSeal
from services.state.blobs import open_blobs
from services.state.engine import ENGINES, open_engine
from services.state.keyring import Keyring
from services.state.step import Keeper
from tests.contract import artifact_suite
from tests.state_engines import sealing_ring


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=sorted(ENGINES))
def name(request):
    return request.param


@pytest.fixture(params=["sealed", "plain"])
async def artifacts(request, name, tmp_path, clock):
    ring = sealing_ring(clock) if request.param == "sealed" else Keyring()
    engine = open_engine(name, tmp_path, on_fatal=pytest.fail, cipher=ring)
    keeper = Keeper(engine, clock=clock)
    seal = BlobSeal(engine, ring, asyncio.get_running_loop())
    artifacts = Artifacts(keeper, open_blobs(name, tmp_path, sealing=seal), slice_size=3)
    yield artifacts
    await artifacts.close()
    keeper.engine.close()


@pytest.mark.parametrize("claim", artifact_suite.CLAIMS, ids=lambda claim: claim.__name__)
async def test_artifacts_keep_the_promise(claim, artifacts, clock):
    """Each claim of the suite holds over each engine, with encryption and without."""
    await claim(artifacts, clock)


def test_suite_has_every_claim():
    """No function of the suite that takes artifacts and a clock is left out of CLAIMS."""
    claims = {
        name
        for name, value in vars(artifact_suite).items()
        if getattr(value, "__annotations__", {}).keys() == {"artifacts", "clock", "return"}
    }
    assert claims == {claim.__name__ for claim in artifact_suite.CLAIMS}
