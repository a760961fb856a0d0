"""Backups over every state engine."""

import pytest

from services.common.clock import FakeClock
from services.state import areas
from services.state.engine import ENGINES, open_engine
from services.state.layout import DATABASES
from services.state.step import Keeper
from tests.contract import backup_suite
from tests.contract.backup_suite import World


@pytest.fixture(params=sorted(ENGINES))
async def world(request, tmp_path):
    clock = FakeClock()
    store = open_engine(request.param, tmp_path / "state", on_fatal=pytest.fail)
    world = World(Keeper(store, clock=clock), clock, tmp_path / "backups")
    yield world
    await world.backups.close()
    await world.items.close()


@pytest.mark.parametrize("claim", backup_suite.CLAIMS, ids=lambda claim: claim.__name__)
async def test_backups_keep_the_promise(claim, world):
    """Each claim of the suite holds over each engine."""
    await claim(world)


def test_every_database_has_its_part_in_a_backup():
    """A database that services.state.areas does not name would be missing from every backup."""
    kept = [each.database for each in areas.KEPT]
    indexes = [index for each in areas.KEPT for index in each.indexes]
    named = [*kept, *sorted(set(indexes)), *areas.CLEARED, *areas.OWN]
    assert sorted(named) == sorted(DATABASES)
