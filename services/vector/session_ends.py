"""Drops what sessions had here once they have ended.

State keeps notes of ends and calls nobody; this asks it, over and over, for those after the last
one that it knows. Where that one is lost, with either process, all notes are read again: dropping
is right however often it is done, since only what is older than the end goes. So a session that
begins anew under an old id keeps its collections.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from llmspell.v1 import session_pb2

from services.common import failpoints
from services.common.access import METHODS
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.limits import PAGE_SIZE_MAX, SESSION_ENDS_WAIT_SECONDS_MAX
from services.common.relay import Relay
from services.vector.model import Collection
from services.vector.storage import VectorStorage

_log = logging.getLogger(__name__)

_METHOD = METHODS["/llmspell.v1.SessionService/ListEndedSessions"]
_CONTEXT = CallContext(tenant="", principal="vector", permissions=("session.ends",))
_PATIENCE_S = 10.0
"""How much longer than it was asked to wait an answer may take."""
_RETRY_S = 1.0
_FAILED_MAX = 1000
"""Ends that are tried again; the oldest beyond come with the next start only."""


class SessionEndsFollower:
    """Follows the ends of all tenants' sessions."""

    def __init__(self, storage: VectorStorage, relay: Relay) -> None:
        """`relay`: knows where SessionService is."""
        self._storage = storage
        self._relay = relay
        self._failed: deque[session_pb2.EndedSession] = deque(maxlen=_FAILED_MAX)

    async def run(self) -> None:
        """Follow until cancelled; where state does not answer, try again every second."""
        after = 0
        while True:
            try:
                after = await self.follow(after, wait_s=SESSION_ENDS_WAIT_SECONDS_MAX)
            except ServiceError as error:
                if error.reason != Reason.SERVICE_UNAVAILABLE:
                    _log.warning("ends of sessions cannot be read", extra={"why": error.message})
                after = 0  # a state process that is back may have another past
                self._failed.clear()  # they come again
                await asyncio.sleep(_RETRY_S)

    async def follow(self, after_revision: int, *, wait_s: float = 0.0) -> int:
        """Drop what belongs to the next ends; the revision after which to go on.

        Those that failed before are tried again first, and soon once more where they fail again.

        Raises:
            ServiceError: what state answers.
        """
        for _ in range(len(self._failed)):
            end = self._failed.popleft()
            if await self._why_kept(end):
                self._failed.append(end)
        wait_s = min(wait_s, _RETRY_S) if self._failed else wait_s
        request = session_pb2.ListEndedSessionsRequest(
            after_revision=after_revision, page_size=PAGE_SIZE_MAX
        )
        request.wait.FromMilliseconds(round(wait_s * 1000))
        answer = await self._relay.call(
            _METHOD, request.SerializeToString(), _CONTEXT, timeout_s=wait_s + _PATIENCE_S
        )
        for end in session_pb2.ListEndedSessionsResponse.FromString(answer).sessions:
            await self._try_to_drop(end)
            after_revision = end.revision
        return after_revision

    async def _try_to_drop(self, end: session_pb2.EndedSession) -> None:
        """One that fails must not hold up the others; it is tried again."""
        why = await self._why_kept(end)
        if why:
            self._failed.append(end)
            _log.warning(
                "what an ended session had could not be dropped",
                extra={"tenant": end.tenant, "session": end.session_id, "why": why},
            )

    async def _why_kept(self, end: session_pb2.EndedSession) -> str:
        """Drop what belongs to an end; why that could not be done, empty where it was."""
        try:
            scope = f"session:{end.session_id}"
            await self._drop(end.tenant, scope, end.end_time.ToNanoseconds())
        except ServiceError as error:
            return error.message
        return ""

    async def _drop(self, tenant: str, scope: str, end_time_ns: int) -> None:
        """Remove the scope's collections that are older than the session's end."""
        collections = await self._collections(tenant, scope)
        old = [each for each in collections if each.create_time_ns <= end_time_ns]
        if old:
            failpoints.hit("vector.session.drop")
        if old and len(old) == len(collections):
            await self._storage.delete_scope(tenant, scope)
            return
        for each in old:
            await self._storage.delete_collection(tenant, scope, each.collection_id)

    async def _collections(self, tenant: str, scope: str) -> list[Collection]:
        found: list[Collection] = []
        after: tuple[str, str] | None = None
        while True:
            page = await self._storage.list_collections(
                tenant, scope, limit=PAGE_SIZE_MAX, after=after
            )
            found += page.collections
            after = page.cursor
            if after is None:
                return found
