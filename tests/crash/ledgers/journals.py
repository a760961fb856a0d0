"""The journal of a session: calls at its end, some of them sent once more."""

from __future__ import annotations

from typing import Any

from llmspell.v1 import journal_pb2

from tests.crash.ledgers.ledger import Ledger, Stubs, Work

SIZES = (0, 100, 2000)
CALLS_MAX = 60

Calls = tuple[bytes, ...]


class JournalLedger(Ledger[Calls]):
    """One journal of one client."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, ())
        self.session = f"j{self.number}"

    def works(self) -> list[Work]:
        """See Ledger."""
        return [self.delete] if len(self.known) > CALLS_MAX else [self.append, self.append_again]

    async def append(self, stubs: Stubs) -> None:
        """Calls that follow."""
        await self._append(stubs, 0)

    async def append_again(self, stubs: Stubs) -> None:
        """Some that are there, and then others."""
        await self._append(stubs, min(2, len(self.known)))

    async def _append(self, stubs: Stubs, repeated: int) -> None:
        new = tuple(
            b"%d %d " % (self.answers, each) + b"z" * self.rng.choice(SIZES)
            for each in range(self.rng.randint(1, 4))
        )
        after = self.known + new
        request = journal_pb2.AppendJournalRequest(session_id=self.session)
        for sequence in range(len(self.known) - repeated, len(after)):
            call = after[sequence]
            request.entries.add(sequence=sequence + 1, method="m", request=call, answer=call[:3])
        answer = await self.ask(stubs.journals.AppendJournal, request, after)
        assert answer.call_count == len(after)

    async def delete(self, stubs: Stubs) -> None:
        """All of it."""
        request = journal_pb2.DeleteJournalRequest(session_id=self.session)
        await self.ask(stubs.journals.DeleteJournal, request, ())

    async def check(self, stubs: Stubs) -> None:
        """See Ledger."""
        request = journal_pb2.ReadJournalRequest(session_id=self.session, first_sequence=1)
        calls = []
        async for part in stubs.journals.ReadJournal(request, metadata=self.metadata):
            calls += part.entries
        assert [each.sequence for each in calls] == list(range(1, len(calls) + 1))
        self.settle(tuple(each.request for each in calls), "journal")
