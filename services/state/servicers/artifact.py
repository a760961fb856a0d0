"""ArtifactService: messages to values, one call of the engine, values to messages.

The tenant is the call's. Errors leave as ServiceError; the door makes a status of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from llmspell.v1 import artifact_pb2 as pb
from llmspell.v1 import artifact_pb2_grpc

from services.common.context import current_context, current_tenant
from services.common.errors import limit_exceeded, required
from services.common.limits import ARTIFACT_CHUNK_BYTES_MAX, ARTIFACT_PUT_BYTES_MAX
from services.common.paging import PageTokens, page_size
from services.state.artifacts import Artifacts
from services.state.model import Once
from services.state.servicers import artifact_messages as messages
from services.state.servicers.messages import read_once, read_scope

_CURSOR_BYTES = 8


class ArtifactServicer(artifact_pb2_grpc.ArtifactServiceServicer):
    """Answers from one engine."""

    def __init__(self, artifacts: Artifacts, page_tokens: PageTokens) -> None:
        self._artifacts = artifacts
        self._page_tokens = page_tokens

    async def StoreArtifact(  # noqa: N802  (the contract's name)
        self, requests: AsyncIterator[pb.StoreArtifactRequest], context: object
    ) -> AsyncIterator[pb.StoreArtifactResponse]:
        """Store bytes from a stream; one answer."""
        del context
        first = await anext(requests, None)
        if first is None or first.WhichOneof("part") != "header":
            raise required("header")
        draft = messages.read_header(first.header, current_context().principal)
        stored = await self._artifacts.store(
            current_tenant(), draft, _chunks(requests), once=read_once(first)
        )
        yield pb.StoreArtifactResponse(
            artifact=messages.write_artifact(stored.artifact), revision=stored.revision
        )

    async def PutArtifact(  # noqa: N802
        self, request: pb.PutArtifactRequest, context: object
    ) -> pb.PutArtifactResponse:
        """Store bytes of one message."""
        del context
        _check_length("content", len(request.content), ARTIFACT_PUT_BYTES_MAX)
        draft = messages.read_header(request.header, current_context().principal)
        once = _once_without_content(request)
        stored = await self._artifacts.store(current_tenant(), draft, [request.content], once=once)
        return pb.PutArtifactResponse(
            artifact=messages.write_artifact(stored.artifact), revision=stored.revision
        )

    async def GetArtifact(  # noqa: N802
        self, request: pb.GetArtifactRequest, context: object
    ) -> pb.GetArtifactResponse:
        """What is known of an artifact."""
        del context
        artifact = await self._artifacts.get(
            current_tenant(), messages.read_choice(request.artifact)
        )
        return pb.GetArtifactResponse(artifact=messages.write_artifact(artifact))

    async def ReadArtifact(  # noqa: N802
        self, request: pb.ReadArtifactRequest, context: object
    ) -> AsyncIterator[pb.ReadArtifactResponse]:
        """An artifact's bytes."""
        del context
        pieces = self._artifacts.read(
            current_tenant(),
            messages.read_choice(request.artifact),
            offset=request.offset,
            length=request.length if request.HasField("length") else None,
        )
        described = False
        async with aclosing(pieces):
            async for artifact, piece in pieces:
                answer = pb.ReadArtifactResponse(chunk=piece)
                if not described:
                    answer.artifact.CopyFrom(messages.write_artifact(artifact))
                described = True
                yield answer

    async def FetchArtifact(  # noqa: N802
        self, request: pb.FetchArtifactRequest, context: object
    ) -> pb.FetchArtifactResponse:
        """One range of an artifact's bytes."""
        del context
        artifact, content = await self._artifacts.fetch(
            current_tenant(),
            messages.read_choice(request.artifact),
            offset=request.offset,
            length=request.length or ARTIFACT_CHUNK_BYTES_MAX,
        )
        return pb.FetchArtifactResponse(artifact=messages.write_artifact(artifact), content=content)

    async def ListArtifacts(  # noqa: N802
        self, request: pb.ListArtifactsRequest, context: object
    ) -> pb.ListArtifactsResponse:
        """A page of artifacts."""
        del context
        query, limit = messages.read_query(request), page_size(request.page_size)
        bound_to = f"ListArtifacts\0{current_tenant()}\0{query!r}"
        page = await self._artifacts.list(
            current_tenant(), query, limit=limit, after=self._cursor(request.page_token, bound_to)
        )
        return pb.ListArtifactsResponse(
            artifacts=map(messages.write_artifact, page.artifacts),
            next_page_token=self._token(page.after, bound_to),
        )

    async def ListArtifactVersions(  # noqa: N802
        self, request: pb.ListArtifactVersionsRequest, context: object
    ) -> pb.ListArtifactVersionsResponse:
        """A page of a name's versions."""
        del context
        scope, name = read_scope(request.scope), messages.read_name(request.name)
        limit = page_size(request.page_size)
        bound_to = f"ListArtifactVersions\0{current_tenant()}\0{scope}\0{name}"
        after = self._cursor(request.page_token, bound_to)
        page = await self._artifacts.versions(
            current_tenant(), scope, name, limit=limit, after=after or 0
        )
        return pb.ListArtifactVersionsResponse(
            artifacts=map(messages.write_artifact, page.artifacts),
            next_page_token=self._token(page.after, bound_to),
        )

    async def DeleteArtifact(  # noqa: N802
        self, request: pb.DeleteArtifactRequest, context: object
    ) -> pb.DeleteArtifactResponse:
        """Remove a version, or all of a name."""
        del context
        changed = await self._artifacts.delete(
            current_tenant(),
            messages.read_choice(request.artifact),
            all_versions=request.all_versions,
        )
        return pb.DeleteArtifactResponse(
            deleted_count=changed.deleted_count, revision=changed.revision
        )

    def _cursor(self, token: str, bound_to: str) -> int | None:
        if not token:
            return None
        return int.from_bytes(self._page_tokens.open(token, bound_to), "big")

    def _token(self, after: int | None, bound_to: str) -> str:
        if after is None:
            return ""
        return self._page_tokens.seal(bound_to, after.to_bytes(_CURSOR_BYTES, "big"))


def _once_without_content(request: pb.PutArtifactRequest) -> Once | None:
    """What a store is known by; its bytes come to it by their digest."""
    if not request.request_id:
        return None
    return read_once(pb.PutArtifactRequest(header=request.header, request_id=request.request_id))


async def _chunks(requests: AsyncIterator[pb.StoreArtifactRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        chunk = messages.read_chunk(request)
        _check_length("chunk", len(chunk), ARTIFACT_CHUNK_BYTES_MAX)
        yield chunk


def _check_length(field: str, length: int, most: int) -> None:
    if length > most:
        raise limit_exceeded(field, length, most, "bytes")
