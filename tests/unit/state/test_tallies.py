"""What tenants have of what is limited, where a step was made and not kept."""

import pytest

from services.common import limits
from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state import tallies
from services.state.session_model import NewSession
from services.state.sessions import Sessions
from services.state.tallies import Tally
from tests.state_engines import memory_keeper


async def test_what_was_not_kept_is_not_counted(monkeypatch):
    """A session for which there was no room on the disk takes no place among the tenant's."""
    keeper = memory_keeper(FakeClock())
    sessions = Sessions(keeper)
    monkeypatch.setattr(limits, "SESSIONS_PER_TENANT_MAX", 2)
    await sessions.create("acme", NewSession())
    await sessions.create("globex", NewSession())
    write = keeper.engine.write

    async def full(operation, *, grows=False):
        def run(txn):
            operation(txn)
            raise ServiceError(Reason.STORAGE_FULL, "There is no room.")

        return await write(run, grows=grows)

    with monkeypatch.context() as patch:
        patch.setattr(keeper.engine, "write", full)
        for _ in range(3):
            with pytest.raises(ServiceError) as refused:
                await sessions.create("acme", NewSession())
            assert refused.value.reason == Reason.STORAGE_FULL
    await sessions.create("acme", NewSession())
    with pytest.raises(ServiceError) as refused:
        await sessions.create("acme", NewSession())
    assert refused.value.reason == Reason.TENANT_LIMIT_REACHED


async def test_nobody_is_counted_while_all_have_less_than_one_may(monkeypatch):
    """A tenant with many records does not wait for its count after a start, until it matters."""
    keeper = memory_keeper(FakeClock())
    sessions = Sessions(keeper)
    monkeypatch.setattr(limits, "SESSIONS_PER_TENANT_MAX", 3)
    counted = []
    count = tallies._count
    monkeypatch.setattr(tallies, "_count", lambda view, *of: counted.append(of) or count(view, *of))
    for tenant in ("acme", "acme", "globex"):
        await sessions.create(tenant, NewSession())
    assert counted == []
    await sessions.create("acme", NewSession())
    assert counted == [("acme", Tally.SESSIONS)]
    with pytest.raises(ServiceError):
        await sessions.create("acme", NewSession())
    await sessions.create("globex", NewSession())
