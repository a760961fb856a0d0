"""SessionService: messages to values, one call of the engine, values to messages.

The tenant is the call's. Errors leave as ServiceError; the door makes a status of them.
"""

from __future__ import annotations

from llmspell.v1 import session_pb2 as pb
from llmspell.v1 import session_pb2_grpc

from services.common.context import current_tenant
from services.common.paging import PageTokens, page_size
from services.common.scope_guard import may_see
from services.state.servicers import session_messages as messages
from services.state.servicers.messages import read_once
from services.state.session_ends import SessionEnds
from services.state.session_model import Status
from services.state.sessions import Sessions


class SessionServicer(session_pb2_grpc.SessionServiceServicer):
    """Answers from one engine."""

    def __init__(self, sessions: Sessions, ends: SessionEnds, page_tokens: PageTokens) -> None:
        self._sessions = sessions
        self._ends = ends
        self._page_tokens = page_tokens

    async def CreateSession(  # noqa: N802  (the contract's name)
        self, request: pb.CreateSessionRequest, context: object
    ) -> pb.CreateSessionResponse:
        """Begin a session."""
        del context
        session = await self._sessions.create(
            current_tenant(), messages.read_new(request), once=read_once(request)
        )
        return pb.CreateSessionResponse(session=messages.write_session(session))

    async def GetSession(  # noqa: N802
        self, request: pb.GetSessionRequest, context: object
    ) -> pb.GetSessionResponse:
        """One session."""
        del context
        session, revision = await self._sessions.get(current_tenant(), request.session_id)
        return pb.GetSessionResponse(session=messages.write_session(session), revision=revision)

    async def UpdateSession(  # noqa: N802
        self, request: pb.UpdateSessionRequest, context: object
    ) -> pb.UpdateSessionResponse:
        """Change what it says of itself."""
        del context
        changes = messages.read_changes(request)
        session = await self._sessions.update(
            current_tenant(), request.session_id, changes, once=read_once(request)
        )
        return pb.UpdateSessionResponse(session=messages.write_session(session))

    async def ListSessions(  # noqa: N802
        self, request: pb.ListSessionsRequest, context: object
    ) -> pb.ListSessionsResponse:
        """A page of sessions."""
        del context
        tenant, limit = current_tenant(), page_size(request.page_size)
        bound_to = f"ListSessions\0{tenant}\0{_asked(request)}"
        after = None
        if request.page_token:
            after = self._page_tokens.open(request.page_token, bound_to)
        page = await self._sessions.list(
            tenant, limit=limit, wanted=messages.read_filter(request), after=after
        )
        answer = pb.ListSessionsResponse(
            sessions=[
                messages.write_session(session)
                for session in page.sessions
                if may_see(f"session:{session.session_id}")
            ],
            revision=page.revision,
        )
        if page.after is not None:
            answer.next_page_token = self._page_tokens.seal(bound_to, page.after)
        return answer

    async def SaveSession(  # noqa: N802
        self, request: pb.SaveSessionRequest, context: object
    ) -> pb.SaveSessionResponse:
        """Take the checkpoint `autosave`."""
        del context
        saved = await self._sessions.save(
            current_tenant(), request.session_id, once=read_once(request)
        )
        return pb.SaveSessionResponse(
            session=messages.write_session(saved.session),
            checkpoint=messages.write_checkpoint(saved.checkpoint),
        )

    async def SuspendSession(  # noqa: N802
        self, request: pb.SuspendSessionRequest, context: object
    ) -> pb.SuspendSessionResponse:
        """To suspended."""
        del context
        return pb.SuspendSessionResponse(session=await self._moved(request, Status.SUSPENDED))

    async def ResumeSession(  # noqa: N802
        self, request: pb.ResumeSessionRequest, context: object
    ) -> pb.ResumeSessionResponse:
        """To active."""
        del context
        return pb.ResumeSessionResponse(session=await self._moved(request, Status.ACTIVE))

    async def CompleteSession(  # noqa: N802
        self, request: pb.CompleteSessionRequest, context: object
    ) -> pb.CompleteSessionResponse:
        """To completed."""
        del context
        return pb.CompleteSessionResponse(session=await self._moved(request, Status.COMPLETED))

    async def FailSession(  # noqa: N802
        self, request: pb.FailSessionRequest, context: object
    ) -> pb.FailSessionResponse:
        """To failed."""
        del context
        moved = await self._sessions.move(
            current_tenant(),
            request.session_id,
            Status.FAILED,
            reason=request.reason,
            once=read_once(request),
        )
        return pb.FailSessionResponse(session=messages.write_session(moved))

    async def ArchiveSession(  # noqa: N802
        self, request: pb.ArchiveSessionRequest, context: object
    ) -> pb.ArchiveSessionResponse:
        """To archived."""
        del context
        return pb.ArchiveSessionResponse(session=await self._moved(request, Status.ARCHIVED))

    async def DeleteSession(  # noqa: N802
        self, request: pb.DeleteSessionRequest, context: object
    ) -> pb.DeleteSessionResponse:
        """Remove a session with all that it has."""
        del context
        deleted = await self._sessions.delete(
            current_tenant(), request.session_id, once=read_once(request)
        )
        return pb.DeleteSessionResponse(deleted_count=int(deleted))

    async def CreateCheckpoint(  # noqa: N802
        self, request: pb.CreateCheckpointRequest, context: object
    ) -> pb.CreateCheckpointResponse:
        """Keep the items and artifacts as they are."""
        del context
        saved = await self._sessions.create_checkpoint(
            current_tenant(), request.session_id, request.name, once=read_once(request)
        )
        return pb.CreateCheckpointResponse(
            session=messages.write_session(saved.session),
            checkpoint=messages.write_checkpoint(saved.checkpoint),
        )

    async def ListCheckpoints(  # noqa: N802
        self, request: pb.ListCheckpointsRequest, context: object
    ) -> pb.ListCheckpointsResponse:
        """All checkpoints of a session."""
        del context
        found = await self._sessions.list_checkpoints(current_tenant(), request.session_id)
        return pb.ListCheckpointsResponse(checkpoints=map(messages.write_checkpoint, found))

    async def RestoreCheckpoint(  # noqa: N802
        self, request: pb.RestoreCheckpointRequest, context: object
    ) -> pb.RestoreCheckpointResponse:
        """Put what a checkpoint has back."""
        del context
        restored = await self._sessions.restore_checkpoint(
            current_tenant(),
            request.session_id,
            request.checkpoint_id,
            keep_present=request.keep_present,
            once=read_once(request),
        )
        before = restored.before
        return pb.RestoreCheckpointResponse(
            session=messages.write_session(restored.session),
            checkpoint=messages.write_checkpoint(restored.checkpoint),
            before=None if before is None else messages.write_checkpoint(before),
            changed_count=restored.changed_count,
            changed_artifact_count=restored.changed_artifact_count,
        )

    async def DeleteCheckpoint(  # noqa: N802
        self, request: pb.DeleteCheckpointRequest, context: object
    ) -> pb.DeleteCheckpointResponse:
        """Remove a checkpoint."""
        del context
        deleted = await self._sessions.delete_checkpoint(
            current_tenant(),
            request.session_id,
            request.checkpoint_id,
            once=read_once(request),
        )
        return pb.DeleteCheckpointResponse(deleted_count=int(deleted))

    async def ListEndedSessions(  # noqa: N802
        self, request: pb.ListEndedSessionsRequest, context: object
    ) -> pb.ListEndedSessionsResponse:
        """Ends of all tenants' sessions."""
        del context
        found = await self._ends.list(
            request.after_revision,
            limit=page_size(request.page_size),
            wait_s=messages.read_wait(request),
        )
        return pb.ListEndedSessionsResponse(sessions=map(messages.write_end, found))

    async def _moved(
        self,
        request: (
            pb.SuspendSessionRequest
            | pb.ResumeSessionRequest
            | pb.CompleteSessionRequest
            | pb.ArchiveSessionRequest
        ),
        to: Status,
    ) -> pb.Session:
        return messages.write_session(
            await self._sessions.move(
                current_tenant(), request.session_id, to, once=read_once(request)
            )
        )


def _asked(request: pb.ListSessionsRequest) -> str:
    """The filter as text: a page token is good for the same one only."""
    same = pb.ListSessionsRequest()
    same.CopyFrom(request)
    same.ClearField("page_token")
    same.ClearField("page_size")
    return same.SerializeToString(deterministic=True).hex()
