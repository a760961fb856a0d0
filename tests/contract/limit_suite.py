"""What one tenant may have of what is limited, over every engine. Each function takes a shop."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from services.common import limits
from services.common.errors import Reason
from services.state.artifact_model import Draft
from services.state.journal import Journals
from services.state.journal_model import Entry
from services.state.model import Once
from services.state.requests import Requests
from services.state.session_model import NewSession, Status
from tests.contract.checkpoint_suite import records
from tests.contract.session_suite import SECOND_NS, Shop
from tests.contract.state_suite import ACME, GLOBEX, Refused, text


@contextmanager
def limited(name: str, most: int):
    """A limit of another number, for as long as this is open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, name, most)
        yield


def reached(most: int, got: int | None = None) -> Refused:
    """That one more is refused, with what there would be and what there may be."""
    got = most + 1 if got is None else got
    return Refused(Reason.TENANT_LIMIT_REACHED, limit=most, got=got)


async def so_many_sessions(shop: Shop) -> None:
    """A tenant has so many sessions, whatever their status; another's do not count."""
    with limited("SESSIONS_PER_TENANT_MAX", 3):
        for number in range(3):
            await shop.create(session_id=f"s{number}", retention_ns=60 * SECOND_NS)
            await shop.create(GLOBEX)
        with reached(3):
            await shop.create()
        await shop.sessions.move(ACME, "s0", Status.COMPLETED)
        with reached(3):
            await shop.create(session_id="more")
        assert await shop.sessions.delete(ACME, "more") is False
        await shop.sessions.delete(ACME, "s1")
        await shop.create(session_id="s3")
        with reached(3):
            await shop.create()
        shop.clock.advance(61)
        while await shop.sweep():
            pass
        await shop.create(session_id="s4")  # for the one whose retention was over
        with reached(3):
            await shop.create()
        await shop.sessions.purge(ACME)
        await shop.create()
        with reached(3):
            await shop.create(GLOBEX)


async def sessions_are_counted_as_they_are(shop: Shop) -> None:
    """What was refused, and what was counted by another process, is counted right."""
    await shop.create(session_id="s")
    await shop.create(session_id="gone")
    await shop.sessions.delete(ACME, "gone")
    with limited("SESSIONS_PER_TENANT_MAX", 2):
        for _ in range(3):
            with Refused(Reason.SESSION_EXISTS):
                await shop.create(session_id="s")
            with Refused(Reason.SESSION_NOT_FOUND):
                await shop.create(parent="nobody")
        await shop.create(session_id="second")
        for _ in range(3):
            with reached(2):
                await shop.create()
        shop.keeper.tallies.forget(ACME)  # as after a restart or a restore
        with reached(2):
            await shop.create()
        await shop.sessions.delete(ACME, "s")
        await shop.create()


async def so_many_bytes_of_journals(shop: Shop) -> None:
    """A tenant's journals have so many bytes together; what was deleted gives its room back."""
    journals = Journals(shop.keeper, slice_size=2)

    def call(sequence: int) -> Entry:
        return Entry(sequence, "m", b"x" * 60, b"y" * 40, "", "", 1, 2, "")

    with limited("JOURNAL_BYTES_PER_TENANT_MAX", 500):
        await journals.append(ACME, "a", [call(number) for number in range(1, 5)])
        await journals.append(GLOBEX, "a", [call(1)])
        with reached(500, 600):
            await journals.append(ACME, "b", [call(1), call(2)])
        assert (await journals.get(ACME, "b")).count == 0
        await journals.append(ACME, "b", [call(1)])
        with reached(500, 600):
            await journals.append(ACME, "a", [call(5)])
        await journals.append(ACME, "a", [call(3), call(4)])  # there already: takes no room
        assert await journals.delete(ACME, "a") == 4
        await journals.append(ACME, "a", [call(number) for number in range(1, 5)])
        with reached(500, 600):
            await journals.append(ACME, "b", [call(2)])
        shop.keeper.tallies.forget(ACME)
        with reached(500, 600):
            await journals.append(ACME, "b", [call(2)])
        await journals.purge(ACME)
        await journals.append(ACME, "b", [call(number) for number in range(1, 6)])


async def so_many_remembered_requests(shop: Shop) -> None:
    """A tenant has so many remembered requests; beyond, a write under an id does nothing at all."""
    requests, value = Requests(shop.keeper), text("x")

    async def write(key: str, tenant: str = ACME) -> None:
        await shop.items.set(tenant, "global", key, value, once=Once(key, b"d"))

    with limited("REQUESTS_PER_TENANT_MAX", 3):
        for key in ("k1", "k2", "k3", "k3", "k1"):
            await write(key)
        await write("k1", GLOBEX)
        with reached(3):
            await write("k4")
        assert (await shop.items.get(ACME, "global", "k4")).item is None
        with reached(3):
            await shop.sessions.create(ACME, NewSession(session_id="s"), once=Once("s", b"d"))
        with Refused(Reason.SESSION_NOT_FOUND):
            await shop.get("s")
        with reached(3):
            draft = Draft(scope="session:s", name="n")
            await shop.artifacts.store(ACME, draft, [b"x"], once=Once("a", b"d"))
        assert await records(shop) == []
        await shop.items.set(ACME, "global", "k4", value)  # without an id
        shop.clock.advance(601)
        with reached(3):
            await write("k5")  # they are over, and the sweep has not come by
        await write("k1")  # takes the place of the one before
        assert await requests.sweep() == 3
        await write("k5")
        await write("k6")
        with reached(3):
            await write("k7")
        await requests.purge(ACME)
        await write("k7")


CLAIMS = (
    so_many_sessions,
    sessions_are_counted_as_they_are,
    so_many_bytes_of_journals,
    so_many_remembered_requests,
)
