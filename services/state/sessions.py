"""Sessions: a life with a beginning and an end, around the items of one scope, over any engine.

A session's items are those of scope `session:ID`; they are as durable as any. The session adds what
it is called, where it is in its life, and checkpoints. Saving takes the checkpoint `autosave`, so
that there is something to go back to; an active session that changed is saved unasked from time to
time. Whatever ends a session leaves a note of it in `session_ends`.

The tenant comes first in every call and separates everything. A session whose time is up is seen as
completed from that moment on, and one whose retention is over is not seen, swept or not. Every call
refuses a tenant or an id that is empty (FIELD_REQUIRED) or cannot be one (FIELD_INVALID), and,
where it names a session, raises SESSION_NOT_FOUND. What a write does inside the transaction stands
in `session_step` and `checkpoint_step`.
"""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from services.common import failpoints
from services.common.errors import Reason, ServiceError
from services.common.expiry import SLICE
from services.common.limits import PAGE_BYTES_MAX
from services.common.store import View
from services.state import rules as item_rules
from services.state import session_rules as rules
from services.state.checkpoint_step import CheckpointStep, list_checkpoints
from services.state.layout import (
    CHECKPOINT_ARTIFACTS,
    CHECKPOINT_ITEMS,
    CHECKPOINTS,
    SESSION_ORDER,
    SESSIONS,
    tenant_prefix,
)
from services.state.layout import sessions as layout
from services.state.layout.items import ChangeKind
from services.state.layout.sessions import Due
from services.state.model import Once
from services.state.requests import Requests
from services.state.session_model import (
    Checkpoint,
    NewSession,
    Restored,
    Saved,
    Session,
    SessionChanges,
    SessionFilter,
    SessionPage,
    Status,
)
from services.state.session_step import NotErased, SessionStep, due_entries, seen_session
from services.state.step import Keeper, Step

_log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOKED_AT_MAX = 2_000
"""Sessions, those that do not match included, after which a page ends."""

_PURGED = (CHECKPOINT_ARTIFACTS, CHECKPOINT_ITEMS, CHECKPOINTS, SESSION_ORDER, SESSIONS)

_NO_ROOM = frozenset({Reason.STORAGE_FULL, Reason.SERVICE_UNAVAILABLE})


class Sessions:
    """Sessions of all tenants."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        slice_size: int = SLICE,
        also_erase: Sequence[Callable[[str, str], Awaitable[object]]] = (),
    ) -> None:
        """What sessions need.

        Args:
            keeper: Engine, time and feed.
            slice_size: Records that one step of an erasure removes.
            also_erase: Erase what a tenant has in a scope beside items; they may be asked twice.
        """
        self._requests = Requests(keeper)
        self._also_erase = also_erase
        self._keeper = keeper
        self._engine = keeper.engine
        self._slice_size = slice_size

    async def create(self, tenant: str, new: NewSession, *, once: Once | None = None) -> Session:
        """Begin a session.

        What a deleted one of this id has left is erased first.

        Raises:
            ServiceError: SESSION_EXISTS; SESSION_NOT_FOUND for a parent that is not there;
                TENANT_LIMIT_REACHED.
        """
        rules.check_new(tenant, new)
        session_id = new.session_id or str(uuid.uuid4())
        while True:
            try:
                return await self._step(
                    tenant,
                    Session,
                    lambda sessions: sessions.create(session_id, new),
                    once=once,
                    grows=True,
                )
            except NotErased:
                await self._step(tenant, bool, lambda sessions: sessions.make_way(session_id))
                await self._erase(tenant, session_id)

    async def get(self, tenant: str, session_id: str) -> tuple[Session, int]:
        """One session, and the revision at which it was so."""
        rules.check_place(tenant, session_id)
        with self._engine.read() as view:
            session = seen_session(view, tenant, session_id, self._keeper.time.now_ns())
            return session, view.revision()

    async def list(
        self,
        tenant: str,
        *,
        limit: int,
        wanted: SessionFilter = SessionFilter(),  # noqa: B008  (frozen)
        after: bytes | None = None,
    ) -> SessionPage:
        """Sessions that match, the newest first, after a place.

        A page may be short, or empty, before the end: read on until its cursor is None.

        Raises:
            ServiceError: FIELD_INVALID where `limit` is not positive.
        """
        item_rules.check_place(tenant, "global")
        most = item_rules.page_limit(limit)
        with self._engine.read() as view:
            now_ns = self._keeper.time.now_ns()
            found, behind = _page(view, tenant, wanted, most=most, after=after, now_ns=now_ns)
            return SessionPage(found, behind, view.revision())

    async def update(
        self, tenant: str, session_id: str, changes: SessionChanges, *, once: Once | None = None
    ) -> Session:
        """Change what a session says of itself; in any status."""
        rules.check_changes(tenant, session_id, changes)
        return await self._step(
            tenant,
            Session,
            lambda sessions: sessions.update(session_id, changes),
            once=once,
            grows=True,
        )

    async def move(
        self,
        tenant: str,
        session_id: str,
        to: Status,
        *,
        reason: str = "",
        once: Once | None = None,
    ) -> Session:
        """Take a session to another status; `reason`: why it failed.

        Raises:
            ServiceError: SESSION_TRANSITION_ILLEGAL.
        """
        rules.check_place(tenant, session_id)
        rules.check_reason(reason)
        return await self._step(
            tenant,
            Session,
            lambda sessions: sessions.move(session_id, to, reason=reason),
            once=once,
        )

    async def save(self, tenant: str, session_id: str, *, once: Once | None = None) -> Saved:
        """Take the checkpoint `autosave`, in place of the one before.

        Raises:
            ServiceError: SESSION_ENDED, LIMIT_EXCEEDED where it has too many items.
        """
        rules.check_place(tenant, session_id)
        return await self._checkpoint(
            tenant, session_id, Saved, CheckpointStep.save, once=once, grows=True
        )

    async def delete(self, tenant: str, session_id: str, *, once: Once | None = None) -> bool:
        """Remove a session with its items and checkpoints; whether it was there.

        From the first step on it is not there; what it had is then erased slice by slice, and by
        the sweep where this call does not live to do it.
        """
        rules.check_place(tenant, session_id)
        steps: list[SessionStep] = []

        def operation(sessions: SessionStep) -> bool:
            steps.append(sessions)
            return sessions.delete(session_id)

        was_there = await self._step(tenant, bool, operation, once=once)
        failpoints.hit("state.session.deleted")
        if steps:  # a repeated call leaves alone what has come since
            await self._erase(tenant, session_id)
        return was_there

    async def create_checkpoint(
        self, tenant: str, session_id: str, name: str = "", *, once: Once | None = None
    ) -> Saved:
        """Keep the items and artifacts as they are now.

        Raises:
            ServiceError: SESSION_ENDED, LIMIT_EXCEEDED (items, artifacts, bytes),
                TENANT_LIMIT_REACHED (checkpoints).
        """
        rules.check_place(tenant, session_id)
        rules.check_name(name)
        return await self._checkpoint(
            tenant,
            session_id,
            Saved,
            lambda checkpoints: checkpoints.create(name),
            once=once,
            grows=True,
        )

    async def list_checkpoints(self, tenant: str, session_id: str) -> Sequence[Checkpoint]:
        """All of them, the newest first."""
        rules.check_place(tenant, session_id)
        with self._engine.read() as view:
            seen_session(view, tenant, session_id, self._keeper.time.now_ns())
            return list_checkpoints(view, tenant, session_id)

    async def restore_checkpoint(
        self,
        tenant: str,
        session_id: str,
        checkpoint_id: str,
        *,
        keep_present: bool = False,
        once: Once | None = None,
    ) -> Restored:
        """Put exactly the items and artifacts of a checkpoint back, in one step; others go.

        An item whose time to live has passed since stays gone. `keep_present`: take a checkpoint of
        what there is first, in the same step.

        Raises:
            ServiceError: SESSION_ENDED, CHECKPOINT_NOT_FOUND, LIMIT_EXCEEDED, ARTIFACT_CORRUPT
                where the bytes of an artifact are not kept any more.
        """
        rules.check_place(tenant, session_id)
        rules.check_checkpoint_id(checkpoint_id)
        return await self._checkpoint(
            tenant,
            session_id,
            Restored,
            lambda checkpoints: checkpoints.restore(checkpoint_id, keep_present=keep_present),
            once=once,
            grows=True,
        )

    async def delete_checkpoint(
        self, tenant: str, session_id: str, checkpoint_id: str, *, once: Once | None = None
    ) -> bool:
        """Remove a checkpoint; whether it was there."""
        rules.check_place(tenant, session_id)
        rules.check_checkpoint_id(checkpoint_id)
        return await self._checkpoint(
            tenant,
            session_id,
            bool,
            lambda checkpoints: checkpoints.delete(checkpoint_id),
            once=once,
        )

    async def purge(self, tenant: str) -> int:
        """Erase a tenant's sessions and checkpoints; how many records.

        Its items are `Items`', and so are its artifacts, with who holds their bytes, `Artifacts`'.
        """
        item_rules.check_place(tenant, "global")
        total = removed = await self._purge_slice(tenant)
        while removed == self._slice_size:
            removed = await self._purge_slice(tenant)
            total += removed
        self._keeper.tallies.forget(tenant)
        return total

    async def sweep(self, limit: int = SLICE) -> int:
        """Do up to `limit` of the things that are due, each in a step of its own; how many.

        What gives room back comes first, and goes on where there is none left to save.

        Raises:
            ServiceError: STORAGE_FULL where something is to be saved and there is no room.
        """
        with self._engine.read() as view:
            now_ns = self._keeper.time.now_ns()
            entries = itertools.chain.from_iterable(due_entries(view, due, now_ns) for due in Due)
            due_now = list(itertools.islice(entries, limit))
        for entry in due_now:
            await self._do(entry)
        return len(due_now)

    async def _do(self, entry: bytes) -> None:
        due, moment_ns, tenant, session_id = layout.split_due_key(entry)
        if due is Due.ERASE:
            await self._erase(tenant, session_id)
        elif due is Due.AUTO_SAVE:
            await self._auto_save(tenant, session_id, moment_ns)
        else:
            gone = await self._step(tenant, bool, lambda sessions: sessions.settle(entry))
            if gone:
                await self._erase(tenant, session_id)

    async def _auto_save(self, tenant: str, session_id: str, moment_ns: int) -> None:
        try:
            await self._checkpoint(
                tenant, session_id, bool, lambda each: each.auto_save(moment_ns), grows=True
            )
        except ServiceError as error:
            if error.reason in _NO_ROOM:
                raise
            _log.warning(
                "a session could not be saved",
                extra={"tenant": tenant, "session_id": session_id, "why": error.message},
            )
            await self._checkpoint(tenant, session_id, bool, lambda each: each.put_off(moment_ns))

    async def _erase(self, tenant: str, session_id: str) -> None:
        if not self._is_there(tenant, session_id):  # a restore of the tenant may bring it back
            for erase in self._also_erase:
                await erase(tenant, f"session:{session_id}")
        after: str | None = ""
        while after is not None:
            after = await self._erase_slice(tenant, session_id, after)

    def _is_there(self, tenant: str, session_id: str) -> bool:
        with self._engine.read() as view:
            return view.has(SESSIONS, layout.session_key(tenant, session_id))

    async def _erase_slice(self, tenant: str, session_id: str, after: str) -> str | None:
        return await self._keeper.step(
            lambda step: SessionStep(step, tenant).erase(session_id, after, self._slice_size)
        )

    async def _purge_slice(self, tenant: str) -> int:
        return await self._keeper.step(lambda step: _purge(step, tenant, self._slice_size))

    async def _step(
        self,
        tenant: str,
        kind: type[T],
        operation: Callable[[SessionStep], T],
        *,
        once: Once | None = None,
        grows: bool = False,
    ) -> T:
        return await self._requests.step(
            tenant, once, kind, lambda step: operation(SessionStep(step, tenant)), grows=grows
        )

    async def _checkpoint(
        self,
        tenant: str,
        session_id: str,
        kind: type[T],
        operation: Callable[[CheckpointStep], T],
        *,
        once: Once | None = None,
        grows: bool = False,
    ) -> T:
        return await self._requests.step(
            tenant,
            once,
            kind,
            lambda step: operation(CheckpointStep(step, tenant, session_id)),
            grows=grows,
        )


def _page(
    view: View,
    tenant: str,
    wanted: SessionFilter,
    *,
    most: int,
    after: bytes | None,
    now_ns: int,
) -> tuple[list[Session], bytes | None]:
    """Sessions that match, and the last place looked at where there may be more."""
    found: list[Session] = []
    size, last = 0, b""
    before = after or _end_of(tenant, wanted)
    entries = view.back(SESSION_ORDER, tenant_prefix(tenant), before=before)
    for number, (place, _) in enumerate(entries):
        if len(found) == most or size > PAGE_BYTES_MAX or number == _LOOKED_AT_MAX:
            return found, last
        _, create_time_ns, session_id = layout.split_order_key(place)
        if wanted.created_from_ns is not None and create_time_ns < wanted.created_from_ns:
            break
        last = place
        stored = view.get(SESSIONS, layout.session_key(tenant, session_id))
        session = None if stored is None else layout.unpack_session(stored)
        seen = None if session is None else rules.seen_at(session, now_ns)
        if seen is not None and rules.matches(seen, wanted):
            found.append(seen)
            size += len(stored or b"")
    return found, None


def _end_of(tenant: str, wanted: SessionFilter) -> bytes:
    if wanted.created_before_ns is None:
        return b""
    return layout.order_key(tenant, wanted.created_before_ns)


def _purge(step: Step, tenant: str, limit: int) -> int:
    """Remove up to `limit` records of a tenant; those by which they are found go with them."""
    prefix = tenant_prefix(tenant)
    removed = 0
    for database in _PURGED:
        for place in list(itertools.islice(step.txn.keys(database, prefix), limit - removed)):
            if database == SESSIONS:
                SessionStep(step, tenant).forget(layout.split_session_key(place)[1])
            step.txn.delete(database, place)
            removed += 1
    if removed:
        step.change(ChangeKind.PURGE, tenant, "", "")
    return removed
