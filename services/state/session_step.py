"""What one operation does to sessions, inside a step.

A session, its entries in the indexes, its change record and the note of its end are written here
and nowhere else, so that they cannot part.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from services.common import limits
from services.common.errors import Reason, ServiceError
from services.common.store import View
from services.state import session_rules as rules
from services.state.checkpoint_artifacts import CheckpointArtifacts
from services.state.item_step import ItemStep
from services.state.layout import (
    CHECKPOINT_ITEMS,
    CHECKPOINTS,
    ITEMS,
    SESSION_DUE,
    SESSION_ENDS,
    SESSION_ORDER,
    SESSIONS,
    tenant_prefix,
)
from services.state.layout import items as item_layout
from services.state.layout import sessions as layout
from services.state.layout.items import ChangeKind
from services.state.layout.sessions import Due
from services.state.model import Write
from services.state.session_model import NewSession, Session, SessionChanges, Status
from services.state.step import Step
from services.state.tallies import Tally

ENDS_LINE = "\0session ends"
"""Touched where a session has ended, whoever's it is; no tenant has this name."""

_SECOND_NS = 10**9


class NotErased(Exception):  # noqa: N818  (says what is the matter)
    """What a session of this id has left must be erased before there can be another."""


class SessionStep:
    """One transaction's sessions of one tenant."""

    def __init__(self, step: Step, tenant: str) -> None:
        self._step = step
        self._txn = step.txn
        self._tenant = tenant

    def get(self, session_id: str) -> Session:
        """The session that a caller sees; one whose time is up is completed first.

        Raises:
            ServiceError: SESSION_NOT_FOUND.
        """
        stored = stored_session(self._txn, self._tenant, session_id)
        if stored is not None and rules.is_overdue(stored, self._step.now_ns):
            stored = self.expire(stored)
        seen = None if stored is None else rules.seen_at(stored, self._step.now_ns)
        if seen is None:
            raise rules.not_found(session_id)
        return seen

    def create(self, session_id: str, new: NewSession) -> Session:
        """A new session.

        Raises:
            ServiceError: SESSION_EXISTS; SESSION_NOT_FOUND for a parent that is not there;
                TENANT_LIMIT_REACHED.
            NotErased: make way first, and erase.
        """
        if self._is_over(session_id):
            raise NotErased(session_id)
        if self._has(session_id):
            raise session_exists(session_id)
        erase = layout.due_key(Due.ERASE, 0, self._tenant, session_id)
        if self._txn.has(SESSION_DUE, erase):
            raise NotErased(session_id)
        if new.parent:
            self.get(new.parent)
        return self._put(
            None, _begun(session_id, new, self._step.now_ns), ChangeKind.SESSION_CREATE
        )

    def make_way(self, session_id: str) -> bool:
        """Delete a session whose retention is over, and that the sweep has not come by."""
        return self._is_over(session_id) and self.delete(session_id)

    def update(self, session_id: str, changes: SessionChanges) -> Session:
        """Change what a session says of itself; times count from where they counted before."""
        before = self.get(session_id)
        given = {name: getattr(changes, name) for name in changes.__slots__}
        after = msgspec.structs.replace(
            before, **{name: value for name, value in given.items() if value is not None}
        )
        if changes.tags is not None:
            after = msgspec.structs.replace(after, tags=tuple(dict.fromkeys(changes.tags)))
        return self._put(
            before, _timed(before, after, self._step.now_ns), ChangeKind.SESSION_UPDATE
        )

    def move(self, session_id: str, to: Status, *, reason: str = "") -> Session:
        """Take a session to another status.

        Raises:
            ServiceError: SESSION_NOT_FOUND, SESSION_TRANSITION_ILLEGAL.
        """
        before = self.get(session_id)
        kind = rules.check_move(before, to)
        now_ns = self._step.now_ns
        if to is Status.ARCHIVED:
            after = msgspec.structs.replace(before, status=to, delete_time_ns=None)
        elif to in rules.ENDED:
            after = rules.ended(before, to, reason, now_ns)
        else:
            runs = to is Status.ACTIVE and before.auto_save_ns
            due = now_ns + before.auto_save_ns if runs else None
            after = msgspec.structs.replace(before, status=to, auto_save_time_ns=due)
        after = self._put(before, after, kind)
        if to in rules.ENDED and to is not Status.ARCHIVED:
            self._note_end(after.session_id, now_ns)
        return after

    def expire(self, before: Session) -> Session:
        """Complete a session whose time is up, as of then."""
        after = self._put(before, rules.expired(before), ChangeKind.SESSION_EXPIRE)
        self._note_end(after.session_id, after.end_time_ns or 0)
        return after

    def amend(self, before: Session, kind: ChangeKind, key: str = "", **changed: Any) -> Session:
        """Write a session with other facts, told as a change of this kind."""
        return self._put(before, msgspec.structs.replace(before, **changed), kind, key)

    def reschedule(self, before: Session, auto_save_time_ns: int) -> None:
        """Set when it is saved next. Nothing that a caller would call a change."""
        after = msgspec.structs.replace(before, auto_save_time_ns=auto_save_time_ns)
        self._write(before, after)

    def delete(self, session_id: str) -> bool:
        """Remove a session; what it has is left to `erase`. False where it is not there."""
        stored = self.readable(session_id)
        if stored is None and not self._has(session_id):
            return False
        seen = stored is None or rules.seen_at(stored, self._step.now_ns) is not None
        self._step.change(ChangeKind.SESSION_DELETE, self._tenant, f"session:{session_id}", "")
        self._unwrite(session_id, stored)
        self._txn.put(SESSION_DUE, layout.due_key(Due.ERASE, 0, self._tenant, session_id), b"")
        self._note_end(session_id, self._step.now_ns)
        return seen

    def settle(self, entry: bytes) -> bool:
        """Do what an EXPIRE or DELETE entry stands for; whether the session is deleted now."""
        due, _, _, session_id = layout.split_due_key(entry)
        stored = self.readable(session_id)
        if stored is None or entry not in layout.due_keys(self._tenant, stored):
            self._txn.delete(SESSION_DUE, entry)
            return False
        if due is Due.EXPIRE:
            self.expire(stored)
            return False
        self.delete(session_id)
        return True

    def forget(self, session_id: str) -> None:
        """Remove what is due for a session that is being purged."""
        stored = self.readable(session_id)
        for place in () if stored is None else layout.due_keys(self._tenant, stored):
            self._txn.delete(SESSION_DUE, place)

    def erase(self, session_id: str, after: str, limit: int) -> str | None:
        """Remove up to `limit` items and checkpoints of a deleted session.

        Returns:
            The item's key after which to go on; None once all is gone.
        """
        if self._has(session_id):  # a restore of the tenant has brought it back
            self._txn.delete(SESSION_DUE, layout.due_key(Due.ERASE, 0, self._tenant, session_id))
            return None
        rest = limit - self._drop_checkpoints(session_id, limit)
        if not rest:
            return after
        scope = f"session:{session_id}"
        begin = item_layout.item_key(self._tenant, scope, "")
        behind = item_layout.item_key(self._tenant, scope, after) if after else b""
        places = itertools.islice(self._txn.keys(ITEMS, begin, after=behind), rest)
        keys = [item_layout.split_item_key(place)[2] for place in places]
        ItemStep(self._step).run(self._tenant, [], [Write(scope, key, None) for key in keys])
        if len(keys) == rest:
            return keys[-1]
        self._txn.delete(SESSION_DUE, layout.due_key(Due.ERASE, 0, self._tenant, session_id))
        return None

    def readable(self, session_id: str) -> Session | None:
        """The session as it is kept; None where there is none, or where it is damaged."""
        try:
            return stored_session(self._txn, self._tenant, session_id)
        except ServiceError:
            return None

    def _is_over(self, session_id: str) -> bool:
        stored = self.readable(session_id)
        return stored is not None and rules.seen_at(stored, self._step.now_ns) is None

    def _drop_checkpoints(self, session_id: str, limit: int) -> int:
        """Remove up to `limit` records of its checkpoints; how many."""
        heads = layout.checkpoint_key(self._tenant, session_id)
        items = layout.checkpoint_items_prefix(self._tenant, session_id)
        dropped = CheckpointArtifacts(self._step, self._tenant, session_id).drop_some(limit)
        for database, prefix in ((CHECKPOINT_ITEMS, items), (CHECKPOINTS, heads)):
            doomed = list(itertools.islice(self._txn.keys(database, prefix), limit - dropped))
            for place in doomed:
                self._txn.delete(database, place)
            dropped += len(doomed)
        return dropped

    def _put(
        self, before: Session | None, after: Session, kind: ChangeKind, key: str = ""
    ) -> Session:
        revision = self._step.change(kind, self._tenant, f"session:{after.session_id}", key)
        after = msgspec.structs.replace(after, revision=revision, update_time_ns=self._step.now_ns)
        self._write(before, after)
        return after

    def _write(self, before: Session | None, after: Session) -> None:
        tenant, session_id = self._tenant, after.session_id
        if before is None:
            self._step.take_room(tenant, Tally.SESSIONS)
            order = layout.order_key(tenant, after.create_time_ns, session_id)
            self._txn.put(SESSION_ORDER, order, b"")
        self._txn.put(SESSIONS, layout.session_key(tenant, session_id), layout.pack_session(after))
        old = set() if before is None else set(layout.due_keys(tenant, before))
        new = set(layout.due_keys(tenant, after))
        for place in old - new:
            self._txn.delete(SESSION_DUE, place)
        for place in new - old:
            self._txn.put(SESSION_DUE, place, b"")

    def _unwrite(self, session_id: str, stored: Session | None) -> None:
        if self._txn.delete(SESSIONS, layout.session_key(self._tenant, session_id)):
            self._step.give_room(self._tenant, Tally.SESSIONS)
        if stored is None:  # damaged: when it was made is not known
            for place in list(self._txn.keys(SESSION_ORDER, tenant_prefix(self._tenant))):
                if layout.split_order_key(place)[2] == session_id:
                    self._txn.delete(SESSION_ORDER, place)
            return
        order = layout.order_key(self._tenant, stored.create_time_ns, session_id)
        self._txn.delete(SESSION_ORDER, order)
        for place in layout.due_keys(self._tenant, stored):
            self._txn.delete(SESSION_DUE, place)

    def _note_end(self, session_id: str, end_time_ns: int) -> None:
        """Leave word for the vector process, which has to drop what the session had there."""
        place = layout.end_key(self._step.revision, self._tenant, session_id)
        self._txn.put(SESSION_ENDS, place, layout.pack_end_time(end_time_ns))
        self._txn.touched.add(ENDS_LINE)

    def _has(self, session_id: str) -> bool:
        return self._txn.has(SESSIONS, layout.session_key(self._tenant, session_id))


def session_exists(session_id: str) -> ServiceError:
    """The id is taken."""
    return ServiceError(
        Reason.SESSION_EXISTS, f"There is a session {session_id} already.", session_id=session_id
    )


def stored_session(view: View, tenant: str, session_id: str) -> Session | None:
    """The session as it is kept, its time come or not.

    Raises:
        ServiceError: RECORD_CORRUPT.
    """
    stored = view.get(SESSIONS, layout.session_key(tenant, session_id))
    return None if stored is None else layout.unpack_session(stored)


def seen_session(view: View, tenant: str, session_id: str, now_ns: int) -> Session:
    """The session that a caller sees at a moment.

    Raises:
        ServiceError: SESSION_NOT_FOUND, RECORD_CORRUPT.
    """
    stored = stored_session(view, tenant, session_id)
    seen = None if stored is None else rules.seen_at(stored, now_ns)
    if seen is None:
        raise rules.not_found(session_id)
    return seen


def due_entries(view: View, due: Due, now_ns: int) -> Iterator[bytes]:
    """Keys in `session_due` of one kind whose time has come, the earliest first."""
    return itertools.takewhile(
        lambda entry: layout.split_due_key(entry)[1] <= now_ns,
        view.keys(SESSION_DUE, layout.due_prefix(due)),
    )


def _begun(session_id: str, new: NewSession, now_ns: int) -> Session:
    def length(given_ns: int | None, default_s: int) -> int:
        return default_s * _SECOND_NS if given_ns is None else given_ns

    timeout_ns = length(new.timeout_ns, limits.SESSION_TIMEOUT_SECONDS)
    auto_save_ns = length(new.auto_save_ns, limits.SESSION_AUTO_SAVE_SECONDS)
    return Session(
        session_id=session_id,
        name=new.name,
        description=new.description,
        tags=tuple(dict.fromkeys(new.tags)),
        parent=new.parent,
        metadata=new.metadata,
        create_time_ns=now_ns,
        update_time_ns=now_ns,
        expire_time_ns=now_ns + timeout_ns if timeout_ns else None,
        auto_save_time_ns=now_ns + auto_save_ns if auto_save_ns else None,
        timeout_ns=timeout_ns,
        retention_ns=length(new.retention_ns, limits.SESSION_RETENTION_SECONDS),
        auto_save_ns=auto_save_ns,
    )


def _timed(before: Session, after: Session, now_ns: int) -> Session:
    """The session with the moments that follow from its lengths of time, where those changed."""
    moments: dict[str, int | None] = {}
    if after.timeout_ns != before.timeout_ns and after.status not in rules.ENDED:
        ends = after.create_time_ns + after.timeout_ns
        moments["expire_time_ns"] = max(ends, now_ns) if after.timeout_ns else None
    if after.retention_ns != before.retention_ns and after.status in rules.ENDED:
        assert after.end_time_ns is not None
        kept = after.retention_ns if after.status is not Status.ARCHIVED else 0
        moments["delete_time_ns"] = after.end_time_ns + kept if kept else None
    if after.auto_save_ns != before.auto_save_ns and after.status is Status.ACTIVE:
        due = now_ns + after.auto_save_ns
        moments["auto_save_time_ns"] = due if after.auto_save_ns else None
    return msgspec.structs.replace(after, **moments)
