"""What one operation does to checkpoints, inside a step.

A checkpoint is a copy of a session's items, as they are stored, and of the records of its
artifacts (`checkpoint_artifacts`).
"""

from __future__ import annotations

from collections.abc import Iterator

from services.common import failpoints, limits
from services.common.errors import Reason, ServiceError, limit_exceeded
from services.common.store import View
from services.state import session_rules as rules
from services.state.checkpoint_artifacts import CheckpointArtifacts
from services.state.item_step import ItemStep
from services.state.layout import CHECKPOINT_ITEMS, CHECKPOINTS, ITEMS, SESSION_DUE
from services.state.layout import items as item_layout
from services.state.layout import sessions as layout
from services.state.layout.items import ChangeKind
from services.state.layout.sessions import Due
from services.state.model import Item, Write
from services.state.session_model import AUTOSAVE, Checkpoint, Restored, Saved, Session
from services.state.session_step import SessionStep
from services.state.step import Step
from services.state.tallies import limit_reached


class CheckpointStep:
    """One transaction's checkpoints of one session."""

    def __init__(self, step: Step, tenant: str, session_id: str) -> None:
        self._step = step
        self._txn = step.txn
        self._tenant = tenant
        self._id = session_id
        self._sessions = SessionStep(step, tenant)
        self._artifacts = CheckpointArtifacts(step, tenant, session_id)

    def save(self) -> Saved:
        """Take the checkpoint that saving takes, in place of the one before.

        Raises:
            ServiceError: SESSION_NOT_FOUND, SESSION_ENDED, LIMIT_EXCEEDED.
        """
        session = self._sessions.get(self._id)
        rules.check_not_ended(session)
        return self._save(session)

    def auto_save(self, moment_ns: int) -> bool:
        """Save a session where that is due since `moment_ns`, if it changed; whether it was due."""
        session = self._due(moment_ns)
        if session is not None:
            self._put_off(self._save(session).session if self._changed() else session)
        return session is not None

    def put_off(self, moment_ns: int) -> bool:
        """Try again, after the usual time, what could not be saved now; whether it was due."""
        session = self._due(moment_ns)
        if session is not None:
            self._put_off(session)
        return session is not None

    def _due(self, moment_ns: int) -> Session | None:
        """The session, where it is to be saved at this moment; else its entry goes."""
        stored = self._sessions.readable(self._id)
        if stored is not None and stored.auto_save_time_ns == moment_ns:
            seen = self._sessions.get(self._id)
            if seen.auto_save_time_ns == moment_ns:
                return seen
        entry = layout.due_key(Due.AUTO_SAVE, moment_ns, self._tenant, self._id)
        self._txn.delete(SESSION_DUE, entry)
        return None

    def _put_off(self, session: Session) -> None:
        self._sessions.reschedule(session, self._step.now_ns + session.auto_save_ns)

    def create(self, name: str) -> Saved:
        """Take a checkpoint.

        Raises:
            ServiceError: SESSION_NOT_FOUND, SESSION_ENDED, LIMIT_EXCEEDED.
        """
        session = self._sessions.get(self._id)
        rules.check_not_ended(session)
        return self._create(session, name)

    def restore(self, checkpoint_id: str, *, keep_present: bool) -> Restored:
        """Put exactly the items and artifacts of a checkpoint back.

        Raises:
            ServiceError: SESSION_NOT_FOUND, SESSION_ENDED, CHECKPOINT_NOT_FOUND, LIMIT_EXCEEDED,
                ARTIFACT_CORRUPT where the bytes of an artifact are not kept any more.
        """
        session = self._sessions.get(self._id)
        rules.check_not_ended(session)
        checkpoint = self._get(checkpoint_id)
        wanted = dict(self._kept(checkpoint_id))
        before: Checkpoint | None = None
        if keep_present:
            kept = self._create(session, f"before restoring {checkpoint_id}")
            session, before = kept.session, kept.checkpoint
        changed = self._put_back(wanted)
        artifacts = self._artifacts.put_back(checkpoint_id)
        failpoints.hit("state.checkpoint.restored")
        session = self._sessions.amend(session, ChangeKind.CHECKPOINT_RESTORE, checkpoint_id)
        return Restored(session, checkpoint, before, changed, artifacts)

    def delete(self, checkpoint_id: str) -> bool:
        """Remove a checkpoint; whether it was there."""
        session = self._sessions.get(self._id)
        if not self._txn.delete(CHECKPOINTS, self._place(checkpoint_id)):
            return False
        self._txn.delete_prefix(CHECKPOINT_ITEMS, self._items_prefix(checkpoint_id))
        self._artifacts.drop(checkpoint_id)
        count = session.checkpoint_count - 1
        self._sessions.amend(
            session, ChangeKind.CHECKPOINT_DELETE, checkpoint_id, checkpoint_count=count
        )
        return True

    def _save(self, session: Session) -> Saved:
        is_first = not self._txn.has(CHECKPOINTS, self._place(AUTOSAVE))
        session = self._sessions.amend(
            session,
            ChangeKind.SESSION_SAVE,
            save_time_ns=self._step.now_ns,
            checkpoint_count=session.checkpoint_count + is_first,
        )
        return Saved(session, self._take(AUTOSAVE, ""))

    def _create(self, session: Session, name: str) -> Saved:
        if session.checkpoint_count >= limits.CHECKPOINTS_MAX:
            count, advice = session.checkpoint_count + 1, "Delete some of them."
            raise limit_reached("the session's checkpoints", count, limits.CHECKPOINTS_MAX, advice)
        number = session.checkpoints_made + 1
        checkpoint_id = f"c{number}"
        session = self._sessions.amend(
            session,
            ChangeKind.CHECKPOINT_CREATE,
            checkpoint_id,
            checkpoint_count=session.checkpoint_count + 1,
            checkpoints_made=number,
        )
        return Saved(session, self._take(checkpoint_id, name))

    def _take(self, checkpoint_id: str, name: str) -> Checkpoint:
        """Copy what is seen. Only what differs from what is there is written."""
        now = {item.key: stored for item, stored in self._present()}
        size = sum(len(key.encode()) + len(stored) for key, stored in now.items())
        _check_size(len(now), size)
        there = dict(self._kept(checkpoint_id))
        for key, stored in now.items():
            if there.pop(key, None) != stored:
                self._txn.put(CHECKPOINT_ITEMS, self._item_place(checkpoint_id, key), stored)
        for key in there:
            self._txn.delete(CHECKPOINT_ITEMS, self._item_place(checkpoint_id, key))
        artifacts = self._artifacts.take(checkpoint_id)
        failpoints.hit("state.checkpoint.copied")
        checkpoint = Checkpoint(
            checkpoint_id=checkpoint_id,
            name=name,
            create_time_ns=self._step.now_ns,
            revision=self._step.revision,
            item_count=len(now),
            size_bytes=size,
            artifact_count=artifacts,
        )
        self._txn.put(CHECKPOINTS, self._place(checkpoint_id), layout.pack_checkpoint(checkpoint))
        return checkpoint

    def _put_back(self, wanted: dict[str, bytes]) -> int:
        """Make the items those that are wanted; how many had to be touched for it."""
        items, scope = ItemStep(self._step), f"session:{self._id}"
        changed = 0
        present = {item.key: item for item, _ in self._present(limits.RESTORE_ITEMS_MAX)}
        for key, stored in wanted.items():
            item = item_layout.unpack_item(key, stored)
            assert item.value is not None, "an item is stored with its value"
            if not item.alive_at(self._step.now_ns):
                continue
            old = present.pop(key, None)
            if old is None or not _same(old, item):
                place = item_layout.item_key(self._tenant, scope, key)
                items.put(
                    place,
                    item.value,
                    item.expire_time_ns,
                    kind=ChangeKind.SET,
                    create_time_ns=item.create_time_ns,
                )
                changed += 1
        removals = [Write(scope, key, None) for key in present]
        return changed + items.run(self._tenant, [], removals).deleted_count

    def _changed(self) -> bool:
        """Whether an item or artifact differs from what was last saved."""
        saved = find_checkpoint(self._txn, self._tenant, self._id, AUTOSAVE)
        revision = 0 if saved is None else saved.revision
        count = 0
        for item, _ in self._present():
            if item.revision > revision:
                return True
            count += 1
        is_same = count == (0 if saved is None else saved.item_count)
        return not is_same or self._artifacts.differ(AUTOSAVE)

    def _present(self, most: int = limits.CHECKPOINT_ITEMS_MAX) -> Iterator[tuple[Item, bytes]]:
        """The session's items that are seen, with what is stored of each.

        Raises:
            ServiceError: LIMIT_EXCEEDED after `most` of them, RECORD_CORRUPT.
        """
        begin = item_layout.item_key(self._tenant, f"session:{self._id}", "")
        count = 0
        for place, stored in self._txn.scan(ITEMS, begin):
            item = item_layout.unpack_item(item_layout.split_item_key(place)[2], stored)
            if not item.alive_at(self._step.now_ns):
                continue
            count += 1
            if count > most:
                raise limit_exceeded("the session's items", count, most)
            yield item, stored

    def _kept(self, checkpoint_id: str) -> Iterator[tuple[str, bytes]]:
        prefix = self._items_prefix(checkpoint_id)
        for place, stored in self._txn.scan(CHECKPOINT_ITEMS, prefix):
            yield layout.split_checkpoint_item_key(place), stored

    def _get(self, checkpoint_id: str) -> Checkpoint:
        found = find_checkpoint(self._txn, self._tenant, self._id, checkpoint_id)
        if found is None:
            raise ServiceError(
                Reason.CHECKPOINT_NOT_FOUND,
                f"Session {self._id} has no checkpoint {checkpoint_id}.",
                session_id=self._id,
                checkpoint_id=checkpoint_id,
            )
        return found

    def _place(self, checkpoint_id: str) -> bytes:
        return layout.checkpoint_key(self._tenant, self._id, checkpoint_id)

    def _items_prefix(self, checkpoint_id: str) -> bytes:
        return layout.checkpoint_item_key(self._tenant, self._id, checkpoint_id)

    def _item_place(self, checkpoint_id: str, key: str) -> bytes:
        return layout.checkpoint_item_key(self._tenant, self._id, checkpoint_id, key)


def find_checkpoint(
    view: View, tenant: str, session_id: str, checkpoint_id: str
) -> Checkpoint | None:
    """A checkpoint's facts; None where there is none.

    Raises:
        ServiceError: RECORD_CORRUPT.
    """
    stored = view.get(CHECKPOINTS, layout.checkpoint_key(tenant, session_id, checkpoint_id))
    return None if stored is None else layout.unpack_checkpoint(stored)


def list_checkpoints(view: View, tenant: str, session_id: str) -> list[Checkpoint]:
    """All checkpoints of a session, the newest first."""
    prefix = layout.checkpoint_key(tenant, session_id)
    found = [layout.unpack_checkpoint(stored) for _, stored in view.scan(CHECKPOINTS, prefix)]
    return sorted(found, key=lambda each: (each.create_time_ns, each.revision), reverse=True)


def _same(one: Item, other: Item) -> bool:
    return one.value == other.value and one.expire_time_ns == other.expire_time_ns


def _check_size(count: int, size_bytes: int) -> None:
    if count > limits.CHECKPOINT_ITEMS_MAX:
        raise limit_exceeded("the session's items", count, limits.CHECKPOINT_ITEMS_MAX)
    if size_bytes > limits.CHECKPOINT_BYTES_MAX:
        size_max = limits.CHECKPOINT_BYTES_MAX
        raise limit_exceeded("the session's items", size_bytes, size_max, "bytes")
