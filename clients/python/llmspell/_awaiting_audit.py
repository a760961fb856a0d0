"""The audit log, of the async client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime

from llmspell import _audit
from llmspell import types as t
from llmspell._awaiting import AsyncCaller


class AsyncAuditCalls(AsyncCaller):
    """What a client reads of the audit log: a tenant's entries; the operator's who names none, all.

    Nothing can be written to it.
    """

    def list_audit(
        self,
        *,
        principal: str = "",
        method: str = "",
        decision: t.AuditDecision | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
    ) -> AsyncIterator[t.AuditEntry]:
        """Entries, the newest first; pages come as they are needed.

        Args:
            principal: Only of this caller.
            method: Only of this method, or of a service: `TenantService/*`.
            decision: Only those that were decided so.
            start_time: Only what began then or later.
            end_time: Only what began before.
        """
        call = _audit.list_audit(
            principal=principal,
            method=method,
            decision=decision,
            start_time=start_time,
            end_time=end_time,
        )
        return self._entries(call)

    async def verify_audit(self, head: t.AuditHead | None = None) -> t.AuditCheck:
        """Whether the chain is whole. The operator's call; it reads all of the log.

        Args:
            head: One that was noted earlier: an end that was cut off since is found out by it.
        """
        return await self._unary(_audit.verify_audit(head))

    def export_audit(self, *, after: int = 0) -> AsyncGenerator[bytes, None]:
        """Entries in order as lines of JSON, some at a time: write them to a file.

        Args:
            after: Only what comes after this place.
        """
        return self._stream(_audit.export_audit(after=after))
