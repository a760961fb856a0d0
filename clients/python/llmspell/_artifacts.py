"""ArtifactService: arguments → requests, answers → values. No calls are made here."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, BinaryIO, TypedDict, cast

from blake3 import blake3

from llmspell._artifact_types import Artifact, Content
from llmspell._contract import AwaitedExchange, Call, Exchange, Page
from llmspell._values import from_fields, from_timestamp, to_fields, to_timestamp
from llmspell.errors import (
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    LLMSpellError,
    Unavailable,
)
from llmspell.types import TimeSpan
from llmspell.v1 import artifact_pb2 as pb

CHUNK_BYTES = 1024 * 1024
_INT64 = range(2**63)
_PAUSES_S = (0.3, 1.5, 2.0)
"""Together about as long as a process that died takes to be back."""
_STORE_S = 60.0
"""Seconds for a store in one message: its bytes have to reach the disk."""


class Details(TypedDict, total=False):
    """What may be said of an artifact when it is stored."""

    artifact_type: str
    """Such as `agent_output`, `tool_result`, `user_input`, or any other word."""
    mime_type: str
    description: str
    tags: Iterable[str]
    metadata: dict[str, Any]
    parent_digest: str
    """Of the artifact that this one was made from."""
    digest: str
    """Store only if the bytes have this digest."""
    keep_versions: int
    """Delete older versions beyond so many; 0 keeps all."""


class Query(TypedDict, total=False):
    """Which artifacts to list; everything given must hold."""

    artifact_type: str
    name_pattern: str
    """`*` is any characters, `?` is one."""
    tags: Iterable[str]
    """All of them."""
    created: TimeSpan
    """From the first time up to, not including, the second."""
    size_bytes_min: int
    size_bytes_max: int
    newest_only: bool
    """Of each name the newest version only."""
    newest_first: bool


def header(name: str, scope: str, details: Details, content: object) -> pb.ArtifactHeader:
    """What is to be stored, without its bytes; how many there are, where that is known.

    So an upload that was cut off can never be taken for a whole one.
    """
    size = None
    if isinstance(content, bytes | bytearray | memoryview):
        size = memoryview(content).nbytes
    return pb.ArtifactHeader(
        scope=scope,
        name=name,
        artifact_type=details.get("artifact_type", ""),
        mime_type=details.get("mime_type", ""),
        description=details.get("description", ""),
        tags=_words(details.get("tags", ()), "tags"),
        metadata=to_fields(details.get("metadata", {}), "metadata"),
        parent_digest=details.get("parent_digest", ""),
        digest=details.get("digest", ""),
        size_bytes=size,
        keep_versions=details.get("keep_versions", 0),
    )


def put(head: pb.ArtifactHeader, content: bytes, request_id: str) -> Call[Artifact]:
    """Store bytes that fit into one message."""
    request = pb.PutArtifactRequest(header=head, content=content, request_id=request_id)
    return Call(request, _stored, _STORE_S)


def store(head: pb.ArtifactHeader, chunks: Iterable[bytes], request_id: str) -> Exchange[Artifact]:
    """Store bytes as a stream."""
    return Exchange(pb.StoreArtifactRequest, _messages(head, chunks, request_id), _stored)


def store_awaiting(
    head: pb.ArtifactHeader, chunks: AsyncIterable[bytes], request_id: str
) -> AwaitedExchange[Artifact]:
    """Likewise, of bytes that are awaited."""
    messages = _awaited_messages(head, chunks, request_id)
    return AwaitedExchange(pb.StoreArtifactRequest, messages, _stored)


def pauses_s(content: object) -> tuple[float | None, ...]:
    """Seconds to wait before each further try to store this content, None for no more of them.

    What can be read only once is not tried again.
    """
    is_there = isinstance(content, bytes | bytearray | memoryview | os.PathLike)
    return (*_PAUSES_S, None) if is_there else (None,)


def choice(
    name: str, scope: str, *, version: int = 0, digest: str = "", sequence: int = 0
) -> pb.ArtifactChoice:
    """Which artifact is meant."""
    for field, number in (("version", version), ("sequence", sequence)):
        if number not in _INT64:
            raise InvalidArgument(f"{field} must be 0 or more.", metadata={"field": field})
    return pb.ArtifactChoice(
        scope=scope, name=name, version=version, digest=digest, sequence=sequence
    )


def get(which: pb.ArtifactChoice) -> Call[Artifact]:
    """What is known of an artifact."""
    return Call(pb.GetArtifactRequest(artifact=which), lambda answer: _artifact(answer.artifact))


def fetch(which: pb.ArtifactChoice, offset: int, length: int) -> Call[bytes]:
    """One range of an artifact's bytes."""
    for field, number in (("offset", offset), ("length", length)):
        if number not in _INT64:
            raise InvalidArgument(f"{field} must be 0 or more.", metadata={"field": field})
    request = pb.FetchArtifactRequest(artifact=which, offset=offset, length=length)
    return Call(request, lambda answer: bytes(answer.content))


def list_artifacts(scope: str, query: Query) -> Call[Page[Artifact]]:
    """A page of artifacts in the order of storing."""
    start, end = query.get("created", (None, None))
    request = pb.ListArtifactsRequest(
        scope=scope,
        artifact_type=query.get("artifact_type", ""),
        name_pattern=query.get("name_pattern", ""),
        tags=_words(query.get("tags", ()), "tags"),
        created_after=to_timestamp(start, "created[0]"),
        created_before=to_timestamp(end, "created[1]"),
        size_bytes_min=query.get("size_bytes_min"),
        size_bytes_max=query.get("size_bytes_max"),
        newest_only=query.get("newest_only", False),
        newest_first=query.get("newest_first", False),
    )
    return Call(request, _artifacts)


def list_versions(name: str, scope: str) -> Call[Page[Artifact]]:
    """A page of a name's versions."""
    return Call(pb.ListArtifactVersionsRequest(scope=scope, name=name), _artifacts)


def delete(which: pb.ArtifactChoice, *, all_versions: bool) -> Call[int]:
    """Remove artifacts; how many."""
    request = pb.DeleteArtifactRequest(artifact=which, all_versions=all_versions)
    return Call(request, lambda answer: int(answer.deleted_count))


class Reading:
    """One reading of an artifact: what to ask for next, and whether what came is right.

    A reading that is cut off goes on where it was, of the very same bytes.
    """

    def __init__(self, which: pb.ArtifactChoice, offset: int, length: int | None) -> None:
        for field, number in (("offset", offset), ("length", length or 0)):
            if number not in _INT64:
                raise InvalidArgument(f"{field} must be 0 or more.", metadata={"field": field})
        self.artifact: Artifact | None = None
        """Known once the first answer has come."""
        self._which = which
        self._offset = offset
        self._left = length
        self._hasher = blake3() if offset == 0 and length is None else None
        self._moved = False

    def call(self) -> Call[bytes | None]:
        """Ask for all that is still missing."""
        self._moved = False
        request = pb.ReadArtifactRequest(
            artifact=self._which, offset=self._offset, length=self._left
        )
        return Call(request, self._take)

    def goes_on(self, error: LLMSpellError) -> bool:
        """Whether to ask again after a failure: it got on, and the failure may pass."""
        return self._moved and isinstance(error, Unavailable | DeadlineExceeded)

    def check(self) -> None:
        """See that all the bytes are the artifact's.

        Raises:
            DataLoss: they are not.
        """
        if self._hasher is None or self.artifact is None:
            return
        if self._hasher.hexdigest() != self.artifact.digest:
            raise DataLoss(
                "The bytes that came are not those of the artifact.",
                reason="ARTIFACT_CORRUPT",
                metadata={"digest": self.artifact.digest},
            )

    def _take(self, answer: pb.ReadArtifactResponse) -> bytes | None:
        if self.artifact is None:
            self.artifact = _artifact(answer.artifact)
            self._which = choice("", self.artifact.scope, sequence=self.artifact.sequence)
            self._which.digest = self.artifact.digest
        chunk = answer.chunk
        self._moved = True
        self._offset += len(chunk)
        if self._left is not None:
            self._left -= len(chunk)
        if self._hasher is not None:
            self._hasher.update(chunk)
        return chunk or None


def pieces(content: Content) -> Iterator[bytes]:
    """Content in chunks that fit into a message.

    Raises:
        InvalidArgument: it is no content.
        OSError: a file cannot be read.
    """
    if isinstance(content, bytes | bytearray | memoryview):
        yield from _cut(memoryview(content).cast("B"))
    elif isinstance(content, os.PathLike):
        with open(content, "rb") as file:  # noqa: PTH123  (any PathLike)
            yield from _blocks(file)
    elif hasattr(content, "read"):
        yield from _blocks(cast("BinaryIO", content))
    elif isinstance(content, str) or not isinstance(content, Iterable):
        raise InvalidArgument(
            "content must be bytes, a pathlib.Path, a file of bytes, or pieces of bytes.",
            metadata={"field": "content"},
        )
    else:
        for piece in content:
            yield from _cut(memoryview(piece).cast("B"))


async def awaited_pieces(content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Content in chunks that fit into a message."""
    async for piece in content:
        for chunk in _cut(memoryview(piece).cast("B")):
            yield chunk


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(CHUNK_BYTES):
        if not isinstance(block, bytes):
            raise InvalidArgument(
                "content must be open for reading bytes.", metadata={"field": "content"}
            )
        yield block


def _cut(content: memoryview) -> Iterator[bytes]:
    for start in range(0, len(content), CHUNK_BYTES):
        yield bytes(content[start : start + CHUNK_BYTES])


def _messages(head: pb.ArtifactHeader, chunks: Iterable[bytes], request_id: str) -> Iterator[Any]:
    yield pb.StoreArtifactRequest(header=head, request_id=request_id)
    for chunk in chunks:
        yield pb.StoreArtifactRequest(chunk=chunk)


async def _awaited_messages(
    head: pb.ArtifactHeader, chunks: AsyncIterable[bytes], request_id: str
) -> AsyncIterator[Any]:
    yield pb.StoreArtifactRequest(header=head, request_id=request_id)
    async for chunk in chunks:
        yield pb.StoreArtifactRequest(chunk=chunk)


def _words(words: Iterable[str], field: str) -> list[str]:
    if isinstance(words, str):  # each letter would become one
        raise InvalidArgument(f"{field} must be a list of texts.", metadata={"field": field})
    return list(words)


def _stored(answer: Any) -> Artifact:
    return _artifact(answer.artifact)


def _artifacts(answer: Any) -> Page[Artifact]:
    return Page([_artifact(each) for each in answer.artifacts], answer.next_page_token)


def _artifact(message: pb.Artifact) -> Artifact:
    return Artifact(
        scope=message.scope,
        name=message.name,
        version=message.version,
        sequence=message.sequence,
        digest=message.digest,
        size_bytes=message.size_bytes,
        stored_bytes=message.stored_bytes,
        artifact_type=message.artifact_type,
        mime_type=message.mime_type,
        description=message.description,
        tags=tuple(message.tags),
        metadata=from_fields(message.metadata),
        parent_digest=message.parent_digest,
        create_time=from_timestamp(message, "create_time"),
        created_by=message.created_by,
        revision=message.revision,
    )
