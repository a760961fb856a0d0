"""What sessions promise over every engine. Each function takes a shop: all that it needs."""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import dataclass

from services.common import limits
from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.state.artifacts import Artifacts
from services.state.items import Items
from services.state.layout import DATABASES
from services.state.layout.items import ChangeKind
from services.state.model import Encoding, Value
from services.state.session_ends import SessionEnds
from services.state.session_model import (
    AUTOSAVE,
    NewSession,
    Session,
    SessionChanges,
    SessionFilter,
    Status,
)
from services.state.session_rules import MOVES
from services.state.sessions import Sessions
from services.state.step import Keeper, changes_after
from tests.contract.state_suite import ACME, GLOBEX, Refused, text

DAY_NS = 24 * 3600 * 10**9
HOUR_NS = 3600 * 10**9
SECOND_NS = 10**9


@dataclass
class Shop:
    """Sessions and items of one empty store, and its clock."""

    keeper: Keeper
    clock: FakeClock
    items: Items
    sessions: Sessions
    ends: SessionEnds
    artifacts: Artifacts

    async def create(self, tenant: str = ACME, **given) -> Session:
        return await self.sessions.create(tenant, NewSession(**given))

    async def set(self, session_id: str, key: str, word: str, **given) -> None:
        await self.items.set(ACME, f"session:{session_id}", key, text(word), **given)

    async def words(self, session_id: str, tenant: str = ACME) -> dict[str, str]:
        """All items of a session."""
        page = await self.items.list(tenant, f"session:{session_id}", limit=1000)
        return {each.key: each.value.content.decode() for each in page.items if each.value}

    async def get(self, session_id: str, tenant: str = ACME) -> Session:
        return (await self.sessions.get(tenant, session_id))[0]

    async def found(self, tenant: str = ACME, **wanted) -> list[str]:
        """Ids of the sessions that match, page by page."""
        names: list[str] = []
        after = None
        while True:
            page = await self.sessions.list(
                tenant, limit=2, wanted=SessionFilter(**wanted), after=after
            )
            names += [each.session_id for each in page.sessions]
            after = page.after
            if after is None:
                return names

    async def checkpoints(self, session_id: str) -> list[str]:
        found = await self.sessions.list_checkpoints(ACME, session_id)
        return [each.checkpoint_id for each in found]

    def kinds(self, tenant: str = ACME, after: int = 0) -> list[ChangeKind]:
        """What the feed tells after a revision."""
        with self.keeper.engine.read() as view:
            return [each.kind for each in changes_after(view, tenant, after)]

    def rows(self) -> dict[str, int]:
        """How many records each database has, feed and tenants left out."""
        with self.keeper.engine.read() as view:
            names = set(DATABASES) - {"changes", "tenants"}
            counts = {name: view.count(name) for name in names}
            return {name: count for name, count in counts.items() if count}

    async def sweep(self) -> int:
        return await self.sessions.sweep()


async def created_reads_back(shop: Shop) -> None:
    """A session reads back as it was made, with an id of its own and the defaults of time."""
    made = await shop.create(
        name="talk", description="about cats", tags=("b", "a", "b"), metadata={"n": 1, "x": [1.5]}
    )
    session, revision = await shop.sessions.get(ACME, made.session_id)
    assert session == made
    assert revision == made.revision
    assert (session.name, session.tags, session.metadata) == (
        "talk",
        ("b", "a"),
        {"n": 1, "x": [1.5]},
    )
    assert session.status is Status.ACTIVE
    assert session.expire_time_ns == shop.clock.now_ns() + DAY_NS
    assert session.retention_ns == 30 * DAY_NS
    assert session.auto_save_time_ns == shop.clock.now_ns() + 300 * SECOND_NS
    assert len(made.session_id) == 36


async def ids_are_taken_once(shop: Shop) -> None:
    """A given id is kept; a second session of it is refused, another tenant's is not."""
    await shop.create(session_id="s-1")
    with Refused(Reason.SESSION_EXISTS, session_id="s-1"):
        await shop.create(session_id="s-1")
    await shop.create(GLOBEX, session_id="s-1", name="theirs")
    assert (await shop.get("s-1")).name == ""


async def bad_input(shop: Shop) -> None:
    """Each field over its limit, or of the wrong form, is refused by name, and nothing is kept."""
    cases = [
        ({"session_id": "a b"}, Reason.FIELD_INVALID, "session_id"),
        ({"session_id": "../x"}, Reason.FIELD_INVALID, "session_id"),
        ({"session_id": "a" * 97}, Reason.FIELD_INVALID, "session_id"),
        ({"session_id": "a\0b"}, Reason.FIELD_INVALID, "session_id"),
        ({"parent": "?"}, Reason.FIELD_INVALID, "parent"),
        ({"name": "x" * 257}, Reason.LIMIT_EXCEEDED, "name"),
        ({"name": "\ud800"}, Reason.FIELD_INVALID, "name"),
        ({"description": "x" * 4097}, Reason.LIMIT_EXCEEDED, "description"),
        ({"tags": ["t"] * 65}, Reason.LIMIT_EXCEEDED, "tags"),
        ({"tags": ["t", ""]}, Reason.FIELD_REQUIRED, "tags[1]"),
        ({"tags": ["x" * 129]}, Reason.LIMIT_EXCEEDED, "tags[0]"),
        ({"metadata": {"x": "y" * 17_000}}, Reason.LIMIT_EXCEEDED, "metadata"),
        ({"metadata": {"x": "\ud800"}}, Reason.FIELD_INVALID, "metadata"),
        ({"timeout_ns": -1}, Reason.FIELD_INVALID, "timeout"),
        ({"retention_ns": 2**63 * 10}, Reason.LIMIT_EXCEEDED, "retention"),
        ({"auto_save_ns": 1}, Reason.FIELD_INVALID, "auto_save"),
    ]
    for given, reason, field in cases:
        with Refused(reason, field=field):
            await shop.create(**given)
    with Refused(Reason.FIELD_REQUIRED, field="session_id"):
        await shop.get("")
    assert shop.rows() == {}


async def parents(shop: Shop) -> None:
    """A parent must be there, for this tenant; children are found by it."""
    await shop.create(GLOBEX, session_id="p")
    with Refused(Reason.SESSION_NOT_FOUND, session_id="p"):
        await shop.create(parent="p")
    await shop.create(session_id="p")
    await shop.create(session_id="c", parent="p")
    assert await shop.found(parent="p") == ["c"]


async def every_move(shop: Shop) -> None:
    """Of all pairs of statuses, those in the table are moves and all others are refused."""
    ways = {
        Status.ACTIVE: (),
        Status.SUSPENDED: (Status.SUSPENDED,),
        Status.COMPLETED: (Status.COMPLETED,),
        Status.FAILED: (Status.FAILED,),
        Status.ARCHIVED: (Status.COMPLETED, Status.ARCHIVED),
    }
    for begin, end in itertools.product(Status, Status):
        session_id = f"{begin.word}-{end.word}"
        await shop.create(session_id=session_id)
        for step in ways[begin]:
            await shop.sessions.move(ACME, session_id, step)
        before = (await shop.get(session_id)).revision
        if (begin, end) in MOVES:
            moved = await shop.sessions.move(ACME, session_id, end)
            assert moved.status is end
            assert shop.kinds(after=before) == [MOVES[begin, end]]
        else:
            legal = ", ".join(to.word for at, to in MOVES if at is begin)
            metadata = {"from": begin.word, "to": end.word, "legal": legal}
            with Refused(Reason.SESSION_TRANSITION_ILLEGAL, **metadata):
                await shop.sessions.move(ACME, session_id, end)
            assert (await shop.get(session_id)).status is begin


async def what_does_not_exist(shop: Shop) -> None:
    """Every call on a session that is not there says so, also where another tenant has it."""
    await shop.create(GLOBEX, session_id="s")
    sessions = shop.sessions
    calls = (
        lambda: sessions.get(ACME, "s"),
        lambda: sessions.update(ACME, "s", SessionChanges(name="x")),
        lambda: sessions.move(ACME, "s", Status.SUSPENDED),
        lambda: sessions.save(ACME, "s"),
        lambda: sessions.create_checkpoint(ACME, "s"),
        lambda: sessions.list_checkpoints(ACME, "s"),
        lambda: sessions.restore_checkpoint(ACME, "s", AUTOSAVE),
        lambda: sessions.delete_checkpoint(ACME, "s", AUTOSAVE),
    )
    for call in calls:
        with Refused(Reason.SESSION_NOT_FOUND, session_id="s"):
            await call()
    assert await sessions.delete(ACME, "s") is False
    assert (await shop.get("s", GLOBEX)).checkpoint_count == 0


async def updates(shop: Shop) -> None:
    """What is given changes, what is not stays, and empty is not the same as not given."""
    await shop.create(session_id="s", name="a", description="d", tags=("t",), metadata={"k": 1})
    shop.clock.advance(5)
    made = await shop.sessions.update(ACME, "s", SessionChanges(name="b"))
    assert (made.name, made.description, made.tags, made.metadata) == ("b", "d", ("t",), {"k": 1})
    assert made.update_time_ns == shop.clock.now_ns()
    made = await shop.sessions.update(
        ACME, "s", SessionChanges(description="", tags=(), metadata={}, auto_save_ns=0)
    )
    assert (made.name, made.description, made.tags, made.metadata) == ("b", "", (), {})
    assert made.auto_save_time_ns is None
    assert await shop.get("s") == made


async def timeouts_move(shop: Shop) -> None:
    """A new timeout counts from the creation; one that is over ends the session at once."""
    await shop.create(session_id="s")
    begin = shop.clock.now_ns()
    shop.clock.advance(7200)
    made = await shop.sessions.update(ACME, "s", SessionChanges(timeout_ns=3 * HOUR_NS))
    assert made.expire_time_ns == begin + 3 * HOUR_NS
    made = await shop.sessions.update(ACME, "s", SessionChanges(timeout_ns=0))
    assert made.expire_time_ns is None
    await shop.sessions.update(ACME, "s", SessionChanges(timeout_ns=HOUR_NS))
    assert (await shop.get("s")).status is Status.COMPLETED


async def lists_newest_first(shop: Shop) -> None:
    """Pages show all sessions of the tenant, the newest first, and no others."""
    for number in range(7):
        await shop.create(session_id=f"s{number}")
        if number % 2:  # some share a moment
            shop.clock.advance(1)
    await shop.create(GLOBEX, session_id="theirs")
    assert await shop.found() == [f"s{number}" for number in reversed(range(7))]


async def pages_are_stable(shop: Shop) -> None:
    """Sessions that come and go while pages are read neither repeat nor hide others."""
    for number in range(6):
        await shop.create(session_id=f"s{number}")
        shop.clock.advance(1)
    first = await shop.sessions.list(ACME, limit=2)
    await shop.create(session_id="new")
    await shop.sessions.delete(ACME, "s4")  # it is on the first page, and is its last entry
    second = await shop.sessions.list(ACME, limit=10, after=first.after)
    assert [each.session_id for each in second.sessions] == ["s3", "s2", "s1", "s0"]
    assert second.after is None


async def filters_filter(shop: Shop) -> None:
    """Each filter leaves exactly what it says, and together they all hold."""
    begin = shop.clock.now_ns()
    await shop.create(session_id="a", name="Über Cats", tags=("x", "y"))
    shop.clock.advance(10)
    await shop.create(session_id="b", name="dogs", tags=("x",))
    shop.clock.advance(10)
    await shop.create(session_id="c", name="catalogue")
    await shop.sessions.move(ACME, "b", Status.SUSPENDED)
    await shop.sessions.move(ACME, "c", Status.FAILED)
    assert await shop.found(statuses=frozenset({Status.ACTIVE})) == ["a"]
    assert await shop.found(statuses=frozenset({Status.SUSPENDED, Status.FAILED})) == ["c", "b"]
    assert await shop.found(tags=("x",)) == ["b", "a"]
    assert await shop.found(tags=("x", "y")) == ["a"]
    assert await shop.found(name_contains="cat") == ["c", "a"]
    assert await shop.found(name_contains="üBER") == ["a"]
    assert await shop.found(created_from_ns=begin + 10 * SECOND_NS) == ["c", "b"]
    assert await shop.found(created_before_ns=begin + 10 * SECOND_NS) == ["a"]
    both = {"created_from_ns": begin + 1, "created_before_ns": begin + 20 * SECOND_NS}
    assert await shop.found(**both) == ["b"]
    assert await shop.found(tags=("x",), name_contains="dog") == ["b"]
    assert await shop.found(tags=("x",), statuses=frozenset({Status.FAILED})) == []


async def saved_comes_back(shop: Shop) -> None:
    """What was saved is what restoring gives: values, ends and ages; and nothing else."""
    await shop.create(session_id="s")
    await shop.set("s", "kept", "1")
    await shop.set("s", "changed", "1", ttl_ns=HOUR_NS)
    await shop.set("s", "removed", "1")
    before = (await shop.items.list(ACME, "session:s", limit=10)).items
    saved = await shop.sessions.save(ACME, "s")
    assert (saved.checkpoint.checkpoint_id, saved.checkpoint.item_count) == (AUTOSAVE, 3)
    assert saved.session.save_time_ns == shop.clock.now_ns()
    shop.clock.advance(5)
    await shop.set("s", "changed", "2")
    await shop.set("s", "added", "2")
    await shop.items.delete(ACME, "session:s", "removed")
    await shop.items.set(ACME, "session:s2", "kept", text("other"))
    await shop.items.set(GLOBEX, "session:s", "kept", text("theirs"))
    restored = await shop.sessions.restore_checkpoint(ACME, "s", AUTOSAVE)
    assert restored.changed_count == 3
    after = (await shop.items.list(ACME, "session:s", limit=10)).items
    facts = [
        [(each.key, each.value, each.create_time_ns, each.expire_time_ns) for each in items]
        for items in (before, after)
    ]
    assert facts[0] == facts[1]
    assert await shop.words("s2") == {"kept": "other"}
    assert await shop.words("s", GLOBEX) == {"kept": "theirs"}


async def restoring_is_told(shop: Shop) -> None:
    """Each item that restoring changes has a change record, those that it leaves have none."""
    await shop.create(session_id="s")
    await shop.set("s", "same", "1")
    await shop.set("s", "other", "1")
    await shop.sessions.save(ACME, "s")
    await shop.set("s", "other", "2")
    await shop.set("s", "more", "2")
    with shop.keeper.engine.read() as view:
        last = view.revision()
    await shop.sessions.restore_checkpoint(ACME, "s", AUTOSAVE)
    with shop.keeper.engine.read() as view:
        told = [(each.kind, each.key) for each in changes_after(view, ACME, last)]
        assert view.revision() == last + 1
    assert sorted(told) == [
        (ChangeKind.SET, "other"),
        (ChangeKind.DELETE, "more"),
        (ChangeKind.CHECKPOINT_RESTORE, AUTOSAVE),
    ]


async def restoring_nothing(shop: Shop) -> None:
    """A checkpoint of no items empties the scope."""
    await shop.create(session_id="s")
    empty = await shop.sessions.create_checkpoint(ACME, "s", "empty")
    assert empty.checkpoint.item_count == 0
    await shop.set("s", "k", "1")
    await shop.sessions.restore_checkpoint(ACME, "s", empty.checkpoint.checkpoint_id)
    assert await shop.words("s") == {}


async def restoring_keeps_the_present(shop: Shop) -> None:
    """Where it is asked for, what there was before can be gone back to."""
    await shop.create(session_id="s")
    await shop.set("s", "k", "old")
    await shop.sessions.create_checkpoint(ACME, "s")
    await shop.set("s", "k", "new")
    restored = await shop.sessions.restore_checkpoint(ACME, "s", "c1", keep_present=True)
    assert restored.before is not None
    assert await shop.words("s") == {"k": "old"}
    await shop.sessions.restore_checkpoint(ACME, "s", restored.before.checkpoint_id)
    assert await shop.words("s") == {"k": "new"}
    assert (await shop.get("s")).checkpoint_count == 2


async def what_ended_stays_gone(shop: Shop) -> None:
    """An item whose time to live has passed is neither copied nor put back."""
    await shop.create(session_id="s")
    await shop.set("s", "short", "1", ttl_ns=10 * SECOND_NS)
    await shop.set("s", "long", "1")
    await shop.sessions.create_checkpoint(ACME, "s")
    shop.clock.advance(10)
    second = await shop.sessions.create_checkpoint(ACME, "s")
    assert second.checkpoint.item_count == 1
    await shop.set("s", "short", "2")
    await shop.sessions.restore_checkpoint(ACME, "s", "c1")
    assert await shop.words("s") == {"long": "1"}


async def checkpoints_are_listed(shop: Shop) -> None:
    """Checkpoints come newest first, are counted, and go when they are deleted."""
    await shop.create(session_id="s")
    await shop.create(session_id="s2")
    await shop.sessions.save(ACME, "s2")
    for name in ("one", "two"):
        shop.clock.advance(1)
        await shop.set("s", "k", name)
        await shop.sessions.create_checkpoint(ACME, "s", name)
    shop.clock.advance(1)
    await shop.sessions.save(ACME, "s")
    await shop.sessions.save(ACME, "s")
    found = await shop.sessions.list_checkpoints(ACME, "s")
    assert [each.checkpoint_id for each in found] == [AUTOSAVE, "c2", "c1"]
    assert [each.name for each in found] == ["", "two", "one"]
    assert (await shop.get("s")).checkpoint_count == 3
    assert await shop.sessions.delete_checkpoint(ACME, "s", "c2") is True
    assert await shop.sessions.delete_checkpoint(ACME, "s", "c2") is False
    assert await shop.checkpoints("s") == [AUTOSAVE, "c1"]
    assert (await shop.get("s")).checkpoint_count == 2
    made = await shop.sessions.create_checkpoint(ACME, "s")
    assert made.checkpoint.checkpoint_id == "c3"  # an id is never used again
    with Refused(Reason.CHECKPOINT_NOT_FOUND, checkpoint_id="c2"):
        await shop.sessions.restore_checkpoint(ACME, "s", "c2")
    assert await shop.checkpoints("s2") == [AUTOSAVE]


async def ended_sessions_are_left_alone(shop: Shop) -> None:
    """Nothing is saved or restored in a session that has ended; reading goes on."""
    await shop.create(session_id="s")
    await shop.set("s", "k", "1")
    await shop.sessions.save(ACME, "s")
    await shop.sessions.move(ACME, "s", Status.COMPLETED)
    for call in (
        lambda: shop.sessions.save(ACME, "s"),
        lambda: shop.sessions.create_checkpoint(ACME, "s"),
        lambda: shop.sessions.restore_checkpoint(ACME, "s", AUTOSAVE),
    ):
        with Refused(Reason.SESSION_ENDED, session_id="s", status="completed"):
            await call()
    assert await shop.words("s") == {"k": "1"}
    assert await shop.checkpoints("s") == [AUTOSAVE]


async def too_much_for_a_checkpoint(shop: Shop) -> None:
    """A session over a limit of checkpoints is told which, and nothing of it has changed."""
    await shop.create(session_id="s")
    half = Value(Encoding.RAW, os.urandom(limits.STATE_VALUE_BYTES_MAX))
    for number in range(limits.CHECKPOINT_BYTES_MAX // limits.STATE_VALUE_BYTES_MAX):
        await shop.items.set(ACME, "session:s", f"k{number}", half)
    before = await shop.get("s")
    with Refused(Reason.LIMIT_EXCEEDED, limit=limits.CHECKPOINT_BYTES_MAX):
        await shop.sessions.save(ACME, "s")
    assert await shop.get("s") == before
    assert await shop.checkpoints("s") == []


async def too_many_checkpoints(shop: Shop) -> None:
    """A session has so many checkpoints and no more; saving goes on."""
    await shop.create(session_id="s")
    for _ in range(limits.CHECKPOINTS_MAX):
        await shop.sessions.create_checkpoint(ACME, "s")
    over = {"limit": limits.CHECKPOINTS_MAX, "got": limits.CHECKPOINTS_MAX + 1}
    with Refused(Reason.TENANT_LIMIT_REACHED, **over):
        await shop.sessions.create_checkpoint(ACME, "s")
    await shop.sessions.save(ACME, "s")
    assert len(await shop.checkpoints("s")) == limits.CHECKPOINTS_MAX + 1


async def saves_by_itself(shop: Shop) -> None:
    """An active session that changed is saved when that is due; one that did not is left."""
    await shop.create(session_id="s", auto_save_ns=60 * SECOND_NS)
    await shop.create(session_id="idle", auto_save_ns=60 * SECOND_NS)
    await shop.create(session_id="never", auto_save_ns=0)
    await shop.set("s", "k", "1")
    await shop.set("never", "k", "1")
    shop.clock.advance(59)
    assert await shop.sweep() == 0
    shop.clock.advance(1)
    assert await shop.sweep() == 2
    assert await shop.checkpoints("s") == [AUTOSAVE]
    assert await shop.checkpoints("idle") == await shop.checkpoints("never") == []
    assert await shop.sweep() == 0
    revision = (await shop.get("s")).revision
    shop.clock.advance(60)
    await shop.sweep()
    assert (await shop.get("s")).revision == revision
    await shop.items.delete(ACME, "session:s", "k")
    shop.clock.advance(60)
    await shop.sweep()
    assert (await shop.sessions.list_checkpoints(ACME, "s"))[0].item_count == 0


async def suspended_sessions_rest(shop: Shop) -> None:
    """A suspended session is not saved by itself; resumed, it is again."""
    await shop.create(session_id="s", auto_save_ns=60 * SECOND_NS)
    await shop.set("s", "k", "1")
    await shop.sessions.move(ACME, "s", Status.SUSPENDED)
    shop.clock.advance(60)
    assert await shop.sweep() == 0
    await shop.sessions.move(ACME, "s", Status.ACTIVE)
    shop.clock.advance(60)
    assert await shop.sweep() == 1
    assert await shop.checkpoints("s") == [AUTOSAVE]


async def unsaveable_sessions_do_not_stop_the_sweep(shop: Shop) -> None:
    """A session that cannot be saved is put off, and others are saved all the same."""
    await shop.create(session_id="large", auto_save_ns=60 * SECOND_NS)
    await shop.create(session_id="small", auto_save_ns=60 * SECOND_NS)
    value = Value(Encoding.RAW, os.urandom(limits.STATE_VALUE_BYTES_MAX))
    for number in range(limits.CHECKPOINT_BYTES_MAX // limits.STATE_VALUE_BYTES_MAX):
        await shop.items.set(ACME, "session:large", f"k{number}", value)
    await shop.set("small", "k", "1")
    shop.clock.advance(60)
    assert await shop.sweep() == 2
    assert await shop.checkpoints("large") == []
    assert await shop.checkpoints("small") == [AUTOSAVE]
    assert await shop.sweep() == 0
    assert (await shop.get("large")).auto_save_time_ns == shop.clock.now_ns() + 60 * SECOND_NS


async def expires(shop: Shop) -> None:
    """A session whose time is up is completed for everyone, before the sweep and after it."""
    await shop.create(session_id="s", timeout_ns=60 * SECOND_NS)
    await shop.create(session_id="rests", timeout_ns=60 * SECOND_NS)
    await shop.create(session_id="for-ever", timeout_ns=0, auto_save_ns=0)
    await shop.sessions.move(ACME, "rests", Status.SUSPENDED)
    end = shop.clock.now_ns() + 60 * SECOND_NS
    shop.clock.advance(61)
    for _ in range(2):
        session = await shop.get("s")
        assert (session.status, session.end_reason) == (Status.COMPLETED, "expired")
        assert (session.end_time_ns, session.delete_time_ns) == (end, end + 30 * DAY_NS)
        assert await shop.found(statuses=frozenset({Status.COMPLETED})) == ["s", "rests"]
        assert await shop.found(statuses=frozenset({Status.ACTIVE})) == ["for-ever"]
        await shop.sweep()
    assert shop.kinds().count(ChangeKind.SESSION_EXPIRE) == 2
    with Refused(Reason.SESSION_TRANSITION_ILLEGAL, **{"from": "completed"}):
        await shop.sessions.move(ACME, "s", Status.SUSPENDED)


async def changing_what_expired(shop: Shop) -> None:
    """A change of a session whose time is up, and which was not swept, finds it ended."""
    await shop.create(session_id="s", timeout_ns=60 * SECOND_NS)
    shop.clock.advance(61)
    with Refused(Reason.SESSION_ENDED):
        await shop.sessions.save(ACME, "s")
    renamed = await shop.sessions.update(ACME, "s", SessionChanges(name="late"))
    assert (renamed.status, renamed.name) == (Status.COMPLETED, "late")
    assert shop.kinds().count(ChangeKind.SESSION_EXPIRE) == 1
    assert len(await shop.ends.list(0, limit=10)) == 1
    await shop.sweep()
    assert len(await shop.ends.list(0, limit=10)) == 1


async def retention_ends(shop: Shop) -> None:
    """After its retention a session is gone with all that it had; an archived one stays."""
    for session_id in ("s", "kept", "archived"):
        keeps = 0 if session_id == "kept" else HOUR_NS
        await shop.create(session_id=session_id, retention_ns=keeps)
        await shop.set(session_id, "k", "1")
        await shop.sessions.save(ACME, session_id)
        await shop.sessions.move(ACME, session_id, Status.FAILED, reason="it rained")
    await shop.sessions.move(ACME, "archived", Status.ARCHIVED)
    assert (await shop.get("s")).end_reason == "it rained"
    shop.clock.advance(3600)
    with Refused(Reason.SESSION_NOT_FOUND):
        await shop.get("s")
    assert await shop.found() == ["kept", "archived"]
    assert await shop.sweep() == 1
    assert await shop.found() == ["kept", "archived"]
    assert await shop.words("s") == {}
    assert await shop.words("archived") == {"k": "1"}
    rows = shop.rows()
    assert (rows["sessions"], rows["checkpoints"], rows["checkpoint_items"]) == (2, 2, 2)
    assert "session_due" not in rows


async def an_id_is_free_after_retention(shop: Shop) -> None:
    """A session whose retention is over makes room for one of the same id, swept or not."""
    await shop.create(session_id="s", retention_ns=HOUR_NS)
    await shop.set("s", "k", "old")
    await shop.sessions.move(ACME, "s", Status.COMPLETED)
    shop.clock.advance(3600)
    made = await shop.create(session_id="s", name="new")
    assert (made.status, made.name) == (Status.ACTIVE, "new")
    assert await shop.words("s") == {}
    assert await shop.found() == ["s"]


async def retention_moves(shop: Shop) -> None:
    """A new retention counts from the end, for a session that has ended as for one that has not."""
    await shop.create(session_id="s")
    await shop.sessions.move(ACME, "s", Status.COMPLETED)
    end = shop.clock.now_ns()
    made = await shop.sessions.update(ACME, "s", SessionChanges(retention_ns=HOUR_NS))
    assert made.delete_time_ns == end + HOUR_NS
    made = await shop.sessions.update(ACME, "s", SessionChanges(retention_ns=0))
    assert made.delete_time_ns is None
    await shop.sessions.move(ACME, "s", Status.ARCHIVED)
    made = await shop.sessions.update(ACME, "s", SessionChanges(retention_ns=HOUR_NS))
    assert made.delete_time_ns is None


async def deleting_takes_everything(shop: Shop) -> None:
    """Deleting a session leaves nothing of it, and nothing of others is touched."""
    await shop.create(GLOBEX, session_id="s")
    await shop.create(session_id="s2")
    await shop.set("s2", "k", "1")
    await shop.sessions.save(ACME, "s2")
    rows = shop.rows()
    await shop.create(session_id="s")
    for number in range(5):
        await shop.set("s", f"k{number}", "1", ttl_ns=HOUR_NS)
    await shop.sessions.save(ACME, "s")
    await shop.sessions.create_checkpoint(ACME, "s")
    assert await shop.sessions.delete(ACME, "s") is True
    assert await shop.sessions.delete(ACME, "s") is False
    assert shop.rows() == {**rows, "session_ends": 1}
    assert await shop.words("s2") == {"k": "1"}
    assert await shop.checkpoints("s2") == [AUTOSAVE]


async def deleting_asks_others(shop: Shop) -> None:
    """Who keeps more of a session is asked to erase it, again where that failed."""
    asked: list[tuple[str, str]] = []
    fails = [True]

    async def erase(tenant: str, scope: str) -> None:
        asked.append((tenant, scope))
        if fails.pop() if fails else False:
            raise ServiceError(Reason.SERVICE_UNAVAILABLE, "not now")

    sessions = Sessions(shop.keeper, also_erase=(erase,))
    await shop.create(session_id="lives")
    await shop.create(session_id="s")
    with Refused(Reason.SERVICE_UNAVAILABLE):
        await sessions.delete(ACME, "s")
    assert await sessions.sweep() == 1
    assert await sessions.sweep() == 0
    assert asked == [(ACME, "session:s")] * 2


async def an_erasure_is_finished_by_the_sweep(shop: Shop) -> None:
    """A deletion that was cut off after its first step goes on with the next sweep, or creation."""
    for session_id in ("s", "t"):
        await shop.create(session_id=session_id)
        for number in range(5):
            await shop.set(session_id, f"k{number}", "1")
        await shop.sessions.save(ACME, session_id)
        deletion = asyncio.create_task(_never(shop, session_id))
        await asyncio.gather(deletion, return_exceptions=True)
        assert await shop.words(session_id) != {}
    await shop.create(session_id="t")
    assert await shop.words("t") == {}
    assert await shop.sweep() == 1
    assert await shop.words("s") == {}
    assert shop.rows().keys() == {"sessions", "session_order", "session_due", "session_ends"}


async def _never(shop: Shop, session_id: str) -> None:
    """Delete a session, and be cut off before anything is erased."""

    async def cut_off(tenant: str, session_id: str) -> None:
        raise asyncio.CancelledError

    sessions = Sessions(shop.keeper)
    sessions._erase = cut_off  # type: ignore[method-assign]
    await sessions.delete(ACME, session_id)


async def purges(shop: Shop) -> None:
    """A purged tenant has nothing left here; another's sessions stay."""
    for tenant in (ACME, GLOBEX):
        await shop.create(tenant, session_id="s")
        await shop.items.set(tenant, "session:s", "k", text("1"))
        await shop.sessions.save(tenant, "s")
        await shop.create(tenant, session_id="t")
        await shop.sessions.move(tenant, "t", Status.COMPLETED)
    before = shop.rows()
    await shop.sessions.purge(ACME)
    await shop.ends.purge(ACME)
    await shop.items.purge(ACME)
    assert shop.rows() == {name: count // 2 for name, count in before.items()}
    assert await shop.found() == []
    assert await shop.found(GLOBEX) == ["t", "s"]
    assert [end.tenant for end in await shop.ends.list(0, limit=10)] == [GLOBEX]


async def ends_are_told(shop: Shop) -> None:
    """Each end leaves a note with its moment, in order of revision, whoever's session it was."""
    await shop.create(session_id="a")
    await shop.create(GLOBEX, session_id="b")
    await shop.create(session_id="c", timeout_ns=5 * SECOND_NS)
    await shop.create(session_id="d")
    await shop.sessions.move(ACME, "a", Status.COMPLETED)
    await shop.sessions.move(GLOBEX, "b", Status.FAILED)
    shop.clock.advance(6)
    await shop.sweep()
    await shop.sessions.delete(ACME, "d")
    await shop.sessions.move(ACME, "a", Status.ARCHIVED)
    ends = await shop.ends.list(0, limit=10)
    named = [(end.tenant, end.session_id) for end in ends]
    assert named == [(ACME, "a"), (GLOBEX, "b"), (ACME, "c"), (ACME, "d")]
    now_ns = shop.clock.now_ns()
    assert [now_ns - end.end_time_ns for end in ends] == [6 * SECOND_NS] * 2 + [SECOND_NS, 0]
    assert list(await shop.ends.list(ends[1].revision, limit=1)) == [ends[2]]
    assert list(await shop.ends.list(ends[3].revision, limit=10)) == []


async def ends_are_waited_for(shop: Shop) -> None:
    """Who waits for the next end is told at once, and who waits in vain hears so."""
    await shop.create(session_id="s")
    waiting = asyncio.create_task(shop.ends.list(0, limit=10, wait_s=30))
    await asyncio.sleep(0)
    await shop.set("s", "k", "1")  # other changes do not count
    await shop.sessions.move(ACME, "s", Status.COMPLETED)
    ends = await asyncio.wait_for(waiting, 5)
    assert [end.session_id for end in ends] == ["s"]
    assert list(await shop.ends.list(ends[0].revision, limit=10, wait_s=0.01)) == []


async def nobody_waits_for_ends_of_a_process_that_stops(shop: Shop) -> None:
    """Who waits is answered at once, and who comes later is not kept either."""
    stopping = asyncio.create_task(shop.ends.run())
    waiting = asyncio.create_task(shop.ends.list(0, limit=10, wait_s=30))
    await asyncio.sleep(0)
    stopping.cancel()
    assert list(await asyncio.wait_for(waiting, 5)) == []
    assert list(await asyncio.wait_for(shop.ends.list(0, limit=10, wait_s=30), 5)) == []


async def old_ends_go(shop: Shop) -> None:
    """Notes of ends are kept for a month, and only so many of them."""
    ends = SessionEnds(shop.keeper, kept_max=2)
    for session_id in ("a", "b", "c"):
        await shop.create(session_id=session_id)
        await shop.sessions.move(ACME, session_id, Status.COMPLETED)
    assert await ends.sweep() == 1
    assert [end.session_id for end in await ends.list(0, limit=10)] == ["b", "c"]
    assert await ends.sweep() == 0
    shop.clock.advance(limits.SESSION_ENDS_SECONDS + 1)
    assert await ends.sweep() == 2
    assert list(await ends.list(0, limit=10)) == []


CLAIMS = [
    created_reads_back,
    ids_are_taken_once,
    bad_input,
    parents,
    every_move,
    what_does_not_exist,
    updates,
    timeouts_move,
    lists_newest_first,
    pages_are_stable,
    filters_filter,
    saved_comes_back,
    restoring_is_told,
    restoring_nothing,
    restoring_keeps_the_present,
    what_ended_stays_gone,
    checkpoints_are_listed,
    ended_sessions_are_left_alone,
    too_much_for_a_checkpoint,
    too_many_checkpoints,
    saves_by_itself,
    suspended_sessions_rest,
    unsaveable_sessions_do_not_stop_the_sweep,
    expires,
    changing_what_expired,
    retention_ends,
    an_id_is_free_after_retention,
    retention_moves,
    deleting_takes_everything,
    deleting_asks_others,
    an_erasure_is_finished_by_the_sweep,
    purges,
    ends_are_told,
    ends_are_waited_for,
    nobody_waits_for_ends_of_a_process_that_stops,
    old_ends_go,
]
