"""Sessions of the client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Any

from llmspell import _sessions
from llmspell import types as t
from llmspell._awaiting import AsyncCaller


class AsyncSessionCalls(AsyncCaller):
    """Lives around the items of a scope, and checkpoints of them."""

    async def create_session(
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
        """Begin a session."""
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
        return await self._unary(call)

    async def get_session(self, session_id: str) -> t.Session:
        """One session."""
        return await self._unary(_sessions.get(session_id))

    async def update_session(
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
        return await self._unary(call)

    def list_sessions(
        self,
        *,
        status: t.SessionStatus | Iterable[t.SessionStatus] = (),
        tags: Iterable[str] = (),
        name_contains: str = "",
        parent: str = "",
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> AsyncIterator[t.Session]:
        """Sessions for which all of this holds, the newest first; pages come as they are needed."""
        call = _sessions.list_sessions(
            status=status,
            tags=tags,
            name_contains=name_contains,
            parent=parent,
            created_after=created_after,
            created_before=created_before,
        )
        return self._entries(call)

    async def save_session(self, session_id: str) -> t.SessionCheckpoint:
        """Take the checkpoint `autosave`, in place of the one before."""
        return await self._unary(_sessions.save(session_id))

    async def suspend_session(self, session_id: str) -> t.Session:
        """Let an active session rest."""
        return await self._unary(_sessions.suspend(session_id))

    async def resume_session(self, session_id: str) -> t.Session:
        """Go on with a suspended session; its items are where they were left."""
        return await self._unary(_sessions.resume(session_id))

    async def complete_session(self, session_id: str) -> t.Session:
        """End a session well; vectors and documents of its scope go."""
        return await self._unary(_sessions.complete(session_id))

    async def fail_session(self, session_id: str, reason: str = "") -> t.Session:
        """End a session badly; otherwise as `complete_session`."""
        return await self._unary(_sessions.fail(session_id, reason))

    async def archive_session(self, session_id: str) -> t.Session:
        """Keep a session that has ended until it is deleted."""
        return await self._unary(_sessions.archive(session_id))

    async def delete_session(self, session_id: str) -> bool:
        """Remove a session with all that it has; whether it was there."""
        return await self._unary(_sessions.delete(session_id))

    async def create_checkpoint(self, session_id: str, name: str = "") -> t.SessionCheckpoint:
        """Keep the items of a session as they are now."""
        return await self._unary(_sessions.create_checkpoint(session_id, name))

    async def list_checkpoints(self, session_id: str) -> list[t.SessionCheckpoint]:
        """All checkpoints of a session, the newest first."""
        return await self._unary(_sessions.list_checkpoints(session_id))

    async def restore_checkpoint(
        self, session_id: str, checkpoint_id: str = "autosave", *, keep_present: bool = False
    ) -> t.RestoredCheckpoint:
        """Put exactly the items and artifacts of a checkpoint back, in one step; others go."""
        call = _sessions.restore_checkpoint(session_id, checkpoint_id, keep_present=keep_present)
        return await self._unary(call)

    async def delete_checkpoint(self, session_id: str, checkpoint_id: str) -> bool:
        """Remove a checkpoint; whether it was there."""
        return await self._unary(_sessions.delete_checkpoint(session_id, checkpoint_id))
