"""Journals of the blocking client."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from llmspell import _journals
from llmspell import types as t
from llmspell._blocking import BlockingCaller


class JournalCalls(BlockingCaller):
    """The calls of sessions, in their order."""

    def append_journal(self, session_id: str, entries: Iterable[t.JournalEntry]) -> int:
        """Add calls at the end, all or none, at most 1000; how many there are then.

        What stands there already may be given again; it changes nothing.

        Raises:
            Conflict: REVISION_MISMATCH where calls before these are missing, or others stand there.
        """
        return self._unary(_journals.append(session_id, entries))

    def read_journal(
        self, session_id: str, *, first_sequence: int = 1
    ) -> Generator[t.JournalEntry, None, None]:
        """The calls of a session in their order, as a stream."""
        for entries in self._stream(_journals.read(session_id, first_sequence)):
            yield from entries

    def list_journal_entries(
        self, session_id: str, *, first_sequence: int = 1, content: bool = True
    ) -> Iterator[t.JournalEntry]:
        """The calls of a session in their order; pages come as they are needed.

        Args:
            session_id: Whose.
            first_sequence: Begin with this call.
            content: Whether with what was asked and answered; without, both are empty.
        """
        return self._entries(_journals.list_entries(session_id, first_sequence, content=content))

    def list_journals(self) -> Iterator[t.Journal]:
        """Journals in order of session; pages come as they are needed."""
        return self._entries(_journals.list_journals())

    def get_journal(self, session_id: str) -> t.Journal:
        """What is known of a session's journal; one that nobody wrote to has no calls."""
        return self._unary(_journals.get(session_id))

    def delete_journal(self, session_id: str) -> int:
        """Erase a journal; how many calls it had."""
        return self._unary(_journals.delete(session_id))
