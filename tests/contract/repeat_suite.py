"""What sessions promise of a change that is repeated under its request id. Each takes a shop."""

from __future__ import annotations

from services.common.errors import Reason
from services.state.artifact_model import Draft
from services.state.model import Once
from services.state.session_model import AUTOSAVE, NewSession, SessionChanges, Status
from tests.contract.checkpoint_suite import collected, contents, drop
from tests.contract.session_suite import SECOND_NS, Shop
from tests.contract.state_suite import ACME, GLOBEX, Refused


def once(name: str, digest: bytes = b"d") -> Once:
    """What a change is known by."""
    return Once(name, digest)


async def repeated_changes_change_nothing(shop: Shop) -> None:
    """Each change of a session that is repeated answers as the first time, and changes nothing."""
    sessions, new = shop.sessions, NewSession(name="n", metadata={"n": 1})
    made = await sessions.create(ACME, new, once=once("create"))
    s = made.session_id
    await shop.set(s, "k", "1")
    calls = {
        "create": lambda known: sessions.create(ACME, new, once=known),
        "update": lambda known: sessions.update(ACME, s, SessionChanges(name="x"), once=known),
        "save": lambda known: sessions.save(ACME, s, once=known),
        "checkpoint": lambda known: sessions.create_checkpoint(ACME, s, "c", once=known),
        "restore": lambda known: sessions.restore_checkpoint(
            ACME, s, AUTOSAVE, keep_present=True, once=known
        ),
        "drop": lambda known: sessions.delete_checkpoint(ACME, s, "c1", once=known),
        "suspend": lambda known: sessions.move(ACME, s, Status.SUSPENDED, once=known),
        "resume": lambda known: sessions.move(ACME, s, Status.ACTIVE, once=known),
        "fail": lambda known: sessions.move(ACME, s, Status.FAILED, reason="r", once=known),
        "archive": lambda known: sessions.move(ACME, s, Status.ARCHIVED, once=known),
        "delete": lambda known: sessions.delete(ACME, s, once=known),
    }
    answers = {name: await call(once(name)) for name, call in calls.items()}
    assert answers["create"] == made
    assert answers["restore"].before.checkpoint_id == "c2"
    assert answers["delete"] is True
    before = shop.rows(), shop.kinds()
    shop.clock.advance(1)
    for name, call in calls.items():
        assert await call(once(name)) == answers[name]
        with Refused(Reason.REQUEST_ID_REUSED, request_id=name):
            await call(once(name, b"other"))
    assert (shop.rows(), shop.kinds()) == before


async def others_have_ids_of_their_own(shop: Shop) -> None:
    """A request id is one tenant's, lasts ten minutes, and is not taken by what was refused."""
    new = NewSession()
    first = await shop.sessions.create(ACME, new, once=once("r"))
    theirs = await shop.sessions.create(GLOBEX, new, once=once("r"))
    assert first.session_id != theirs.session_id
    with Refused(Reason.SESSION_NOT_FOUND):
        await shop.sessions.save(ACME, "s", once=once("early"))
    await shop.create(session_id="s")
    await shop.sessions.save(ACME, "s", once=once("early"))
    assert await shop.checkpoints("s") == [AUTOSAVE]
    shop.clock.advance(601)
    assert await shop.sessions.create(ACME, new, once=once("r")) != first


async def a_repeated_delete_spares_what_came_since(shop: Shop) -> None:
    """What was written after a session was deleted stays when the deletion is repeated."""
    await shop.create(session_id="s")
    assert await shop.sessions.delete(ACME, "s", once=once("d")) is True
    await shop.set("s", "k", "since")
    assert await shop.sessions.delete(ACME, "s", once=once("d")) is True
    assert await shop.words("s") == {"k": "since"}
    await shop.create(session_id="s")
    assert await shop.sessions.delete(ACME, "s", once=once("d")) is True
    assert (await shop.get("s")).status is Status.ACTIVE


async def a_create_that_must_erase_first(shop: Shop) -> None:
    """A session whose id was one's that is over is made once, and has nothing of that one."""
    await shop.create(session_id="s", retention_ns=60 * SECOND_NS)
    for number in range(5):
        await shop.set("s", f"k{number}", "old")
    await shop.sessions.create_checkpoint(ACME, "s")
    await shop.sessions.move(ACME, "s", Status.COMPLETED)
    shop.clock.advance(61)
    new = NewSession(session_id="s", name="new")
    made = await shop.sessions.create(ACME, new, once=once("c"))
    assert await shop.words("s") == {}
    assert await shop.checkpoints("s") == []
    assert await shop.sessions.create(ACME, new, once=once("c")) == made
    with Refused(Reason.SESSION_EXISTS):
        await shop.sessions.create(ACME, new, once=once("c2"))


async def repeated_stores_store_nothing(shop: Shop) -> None:
    """A store that is repeated answers as the first time; other bytes under its id are refused."""
    draft = Draft(scope="session:s", name="plan", metadata={"x": b"\0", "n": 1.5})
    first = await shop.artifacts.store(ACME, draft, [b"one"], once=once("r"))
    again = await shop.artifacts.store(ACME, draft, [b"o", b"ne"], once=once("r"))
    assert again == first
    assert await contents(shop) == {"plan@1": b"one"}
    theirs = await shop.artifacts.store(GLOBEX, draft, [b"one"], once=once("r"))
    assert theirs.artifact.version == 1
    for bytes_, known in ((b"two", once("r")), (b"one", once("r", b"other"))):
        with Refused(Reason.REQUEST_ID_REUSED, request_id="r"):
            await shop.artifacts.store(ACME, draft, [bytes_], once=known)
    with Refused(Reason.LIMIT_EXCEEDED, field="request_id"):
        await shop.artifacts.store(ACME, draft, [b"one"], once=once("r" * 65))
    assert len(await collected(shop)) == 2
    shop.clock.advance(601)
    assert (await shop.artifacts.store(ACME, draft, [b"one"], once=once("r"))).artifact.version == 2


async def a_repeated_store_of_what_is_gone(shop: Shop) -> None:
    """Where the artifact was deleted since, a repeated store leaves no bytes behind."""
    draft = Draft(scope="session:s", name="plan")
    first = await shop.artifacts.store(ACME, draft, [b"one"], once=once("r"))
    await drop(shop, "plan")
    assert await collected(shop) == set()
    assert await shop.artifacts.store(ACME, draft, [b"one"], once=once("r")) == first
    collector = shop.artifacts.collector
    assert set().union(*collector.blobs.stored()) == set()
    assert await contents(shop) == {}


CLAIMS = (
    repeated_changes_change_nothing,
    others_have_ids_of_their_own,
    a_repeated_delete_spares_what_came_since,
    a_create_that_must_erase_first,
    repeated_stores_store_nothing,
    a_repeated_store_of_what_is_gone,
)
