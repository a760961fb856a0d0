"""Migrations over every engine, and over one that is encrypted."""

import pytest

from services.common.clock import FakeClock
from services.state.engine import ENGINES, open_engine
from services.state.items import Items
from services.state.migrations import passes
from services.state.migrations.migrations import Migrations
from services.state.migrations.schemas import Schemas
from services.state.step import Keeper
from tests.contract import migration_suite
from tests.state_engines import sealing_ring


@pytest.fixture(params=[*sorted(ENGINES), "encrypted"])
async def stage(request, tmp_path, monkeypatch):
    monkeypatch.setattr(passes, "STAGED_AT_A_TIME", passes.STAGED_AT_A_TIME)
    clock = FakeClock()
    encrypted = request.param == "encrypted"
    store = open_engine(
        "embedded" if encrypted else request.param,
        tmp_path / "state",
        on_fatal=pytest.fail,
        cipher=sealing_ring(clock) if encrypted else None,
    )
    keeper = Keeper(store, clock=clock)
    made = []

    def make(**kwargs):
        made.append(Migrations(keeper, **kwargs))
        return made[-1]

    items = Items(keeper)
    yield migration_suite.Stage(keeper, items, Schemas(keeper), clock, make)
    for migrations in made:
        await migrations.close()
    await items.close()


@pytest.mark.parametrize("claim", migration_suite.CLAIMS, ids=lambda claim: claim.__name__)
async def test_a_migration_keeps_the_promise(claim, stage):
    """Each claim of the suite holds for each engine."""
    await claim(stage)


def test_suite_has_every_claim():
    """No function of the suite that takes a stage alone is left out of CLAIMS."""
    claims = {
        name
        for name, value in vars(migration_suite).items()
        if getattr(value, "__annotations__", {}) == {"stage": "Stage", "return": "None"}
    }
    assert claims == {claim.__name__ for claim in migration_suite.CLAIMS}
