"""Journals of the asyncio client; `_blocking_journals` says more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing

from llmspell import _journals
from llmspell import types as t
from llmspell._awaiting import AsyncCaller


class AsyncJournalCalls(AsyncCaller):
    """The calls of sessions, in their order."""

    async def append_journal(self, session_id: str, entries: Iterable[t.JournalEntry]) -> int:
        """Add calls at the end, all or none, at most 1000; how many there are then."""
        return await self._unary(_journals.append(session_id, entries))

    async def read_journal(
        self, session_id: str, *, first_sequence: int = 1
    ) -> AsyncGenerator[t.JournalEntry, None]:
        """The calls of a session in their order, as a stream."""
        async with aclosing(self._stream(_journals.read(session_id, first_sequence))) as stream:
            async for entries in stream:
                for entry in entries:
                    yield entry

    def list_journal_entries(
        self, session_id: str, *, first_sequence: int = 1, content: bool = True
    ) -> AsyncIterator[t.JournalEntry]:
        """The calls of a session in their order; pages come as they are needed.

        Args:
            session_id: Whose.
            first_sequence: Begin with this call.
            content: Whether with what was asked and answered; without, both are empty.
        """
        return self._entries(_journals.list_entries(session_id, first_sequence, content=content))

    def list_journals(self) -> AsyncIterator[t.Journal]:
        """Journals in order of session; pages come as they are needed."""
        return self._entries(_journals.list_journals())

    async def get_journal(self, session_id: str) -> t.Journal:
        """What is known of a session's journal; one that nobody wrote to has no calls."""
        return await self._unary(_journals.get(session_id))

    async def delete_journal(self, session_id: str) -> int:
        """Erase a journal; how many calls it had."""
        return await self._unary(_journals.delete(session_id))
