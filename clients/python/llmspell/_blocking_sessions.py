"""Sessions of the blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from llmspell import _sessions
from llmspell import types as t
from llmspell._blocking import BlockingCaller


class SessionCalls(BlockingCaller):
    """Lives around the items of a scope, and checkpoints of them."""

    def create_session(
        self,
        name: str = "",
        *,
        session_id: str = "",
        description: str = "",
        tags: Iterable[str] = (),
        parent: str = "",
        metadata: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        retention_s: float | None = None,
        auto_save_s: float | None = None,
    ) -> t.Session:
        """Begin a session.

        Args:
            name: What people call it.
            session_id: Its id, of letters, digits, `_` and `-`; empty: one is made.
            description: What it is about.
            tags: Words to find it by.
            parent: Id of the session that it belongs to.
            metadata: Whatever else is to be known of it.
            timeout_s: Seconds until it is completed unasked; None: a day, 0: never.
            retention_s: Seconds that it is kept after its end; None: 30 days, 0: until it is
                deleted.
            auto_save_s: Seconds between automatic saves; None: 300, 0: none.

        Raises:
            AlreadyExists: SESSION_EXISTS.
            NotFound: SESSION_NOT_FOUND for the parent.
        """
        call = _sessions.create(
            name,
            session_id=session_id,
            description=description,
            tags=tags,
            parent=parent,
            metadata=metadata,
            timeout_s=timeout_s,
            retention_s=retention_s,
            auto_save_s=auto_save_s,
        )
        return self._unary(call)

    def get_session(self, session_id: str) -> t.Session:
        """One session."""
        return self._unary(_sessions.get(session_id))

    def update_session(
        self,
        session_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        retention_s: float | None = None,
        auto_save_s: float | None = None,
    ) -> t.Session:
        """Change what a session says of itself; None leaves as it is. Tags and metadata whole."""
        call = _sessions.update(
            session_id,
            name=name,
            description=description,
            tags=tags,
            metadata=metadata,
            timeout_s=timeout_s,
            retention_s=retention_s,
            auto_save_s=auto_save_s,
        )
        return self._unary(call)

    def list_sessions(
        self,
        *,
        status: t.SessionStatus | Iterable[t.SessionStatus] = (),
        tags: Iterable[str] = (),
        name_contains: str = "",
        parent: str = "",
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Iterator[t.Session]:
        """Sessions for which all of this holds, the newest first; pages come as they are needed.

        Args:
            status: It is in this status, or in one of these.
            tags: It has each of them.
            name_contains: Part of its name, in upper or lower case.
            parent: It belongs to this session.
            created_after: At this moment or later.
            created_before: Before this moment.
        """
        call = _sessions.list_sessions(
            status=status,
            tags=tags,
            name_contains=name_contains,
            parent=parent,
            created_after=created_after,
            created_before=created_before,
        )
        return self._entries(call)

    def save_session(self, session_id: str) -> t.SessionCheckpoint:
        """Take the checkpoint `autosave`, in place of the one before."""
        return self._unary(_sessions.save(session_id))

    def suspend_session(self, session_id: str) -> t.Session:
        """Let an active session rest."""
        return self._unary(_sessions.suspend(session_id))

    def resume_session(self, session_id: str) -> t.Session:
        """Go on with a suspended session; its items are where they were left."""
        return self._unary(_sessions.resume(session_id))

    def complete_session(self, session_id: str) -> t.Session:
        """End a session well; vectors and documents of its scope go."""
        return self._unary(_sessions.complete(session_id))

    def fail_session(self, session_id: str, reason: str = "") -> t.Session:
        """End a session badly; otherwise as `complete_session`."""
        return self._unary(_sessions.fail(session_id, reason))

    def archive_session(self, session_id: str) -> t.Session:
        """Keep a session that has ended until it is deleted."""
        return self._unary(_sessions.archive(session_id))

    def delete_session(self, session_id: str) -> bool:
        """Remove a session with all that it has; whether it was there."""
        return self._unary(_sessions.delete(session_id))

    def create_checkpoint(self, session_id: str, name: str = "") -> t.SessionCheckpoint:
        """Keep the items of a session as they are now."""
        return self._unary(_sessions.create_checkpoint(session_id, name))

    def list_checkpoints(self, session_id: str) -> list[t.SessionCheckpoint]:
        """All checkpoints of a session, the newest first."""
        return self._unary(_sessions.list_checkpoints(session_id))

    def restore_checkpoint(
        self, session_id: str, checkpoint_id: str = "autosave", *, keep_present: bool = False
    ) -> t.RestoredCheckpoint:
        """Put exactly the items and artifacts of a checkpoint back, in one step; others go.

        Args:
            session_id: Of which session.
            checkpoint_id: Which; `autosave` is what saving takes.
            keep_present: Take a checkpoint of what there is first, in the same step.

        Raises:
            NotFound: SESSION_NOT_FOUND, CHECKPOINT_NOT_FOUND.
            FailedPrecondition: SESSION_ENDED.
        """
        call = _sessions.restore_checkpoint(session_id, checkpoint_id, keep_present=keep_present)
        return self._unary(call)

    def delete_checkpoint(self, session_id: str, checkpoint_id: str) -> bool:
        """Remove a checkpoint; whether it was there."""
        return self._unary(_sessions.delete_checkpoint(session_id, checkpoint_id))
