"""Between ArtifactService's messages and the engine's values; each is translated once."""

from __future__ import annotations

import unicodedata
from typing import Any

from llmspell.v1 import artifact_pb2 as pb

from services.common.errors import field_invalid, limit_exceeded, required
from services.common.limits import ARTIFACT_METADATA_BYTES_MAX
from services.common.values import fill_map, map_to_python
from services.state.artifact_model import Artifact, Choice, Draft, Query
from services.state.servicers.messages import read_scope

_DIGEST_DIGITS = 64


def read_header(header: pb.ArtifactHeader, principal: str) -> Draft:
    """An artifact that is to be stored by a principal.

    Raises:
        ServiceError: SCOPE_INVALID, FIELD_INVALID, LIMIT_EXCEEDED.
    """
    metadata_bytes = sum(
        len(key.encode()) + value.ByteSize() for key, value in header.metadata.items()
    )
    if metadata_bytes > 2 * ARTIFACT_METADATA_BYTES_MAX:  # before time is spent on it
        raise limit_exceeded("metadata", metadata_bytes, ARTIFACT_METADATA_BYTES_MAX, "bytes")
    return Draft(
        scope=read_scope(header.scope),
        name=read_name(header.name),
        artifact_type=header.artifact_type,
        mime_type=header.mime_type,
        description=header.description,
        tags=tuple(header.tags),
        metadata=map_to_python(header.metadata, "metadata"),
        parent_digest=read_digest(header.parent_digest, "parent_digest"),
        created_by=principal,
        expected_digest=read_digest(header.digest, "digest"),
        expected_size_bytes=header.size_bytes if header.HasField("size_bytes") else None,
        keep_versions=header.keep_versions,
    )


def read_choice(choice: pb.ArtifactChoice) -> Choice:
    """Which artifact is meant.

    Raises:
        ServiceError: SCOPE_INVALID, FIELD_INVALID.
    """
    return Choice(
        scope=read_scope(choice.scope),
        name=read_name(choice.name),
        version=read_number(choice.version, "version"),
        digest=read_digest(choice.digest, "digest"),
        sequence=read_number(choice.sequence, "sequence"),
    )


def read_query(request: pb.ListArtifactsRequest) -> Query:
    """Which artifacts to list.

    Raises:
        ServiceError: SCOPE_INVALID, FIELD_INVALID.
    """
    return Query(
        scope=read_scope(request.scope),
        artifact_type=request.artifact_type,
        name_pattern=read_name(request.name_pattern),
        tags=tuple(request.tags),
        created_after_ns=_moment(request, "created_after"),
        created_before_ns=_moment(request, "created_before"),
        size_bytes_min=request.size_bytes_min if request.HasField("size_bytes_min") else None,
        size_bytes_max=request.size_bytes_max if request.HasField("size_bytes_max") else None,
        newest_only=request.newest_only,
        newest_first=request.newest_first,
    )


def read_name(name: str) -> str:
    """A name as it is kept: text that looks alike is one name."""
    return unicodedata.normalize("NFC", name)


def read_digest(text: str, field: str) -> bytes:
    """A digest; empty where none is given.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if text and (not digest or len(text) != _DIGEST_DIGITS):
        raise field_invalid(field, "must be the 64 hexadecimal digits of a blake3 digest")
    return digest


def read_number(number: int, field: str) -> int:
    """A version or sequence.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    if number >= 2**63:
        raise field_invalid(field, "must fit into 63 bits")
    return number


def read_chunk(request: pb.StoreArtifactRequest) -> bytes:
    """The bytes of a later message of a stream.

    Raises:
        ServiceError: FIELD_REQUIRED.
    """
    if request.WhichOneof("part") != "chunk":
        raise required("chunk")
    return bytes(request.chunk)


def write_artifact(artifact: Artifact) -> pb.Artifact:
    """An artifact as it travels."""
    message = pb.Artifact(
        scope=artifact.scope,
        name=artifact.name,
        version=artifact.version,
        sequence=artifact.sequence,
        digest=artifact.digest.hex(),
        size_bytes=artifact.size_bytes,
        stored_bytes=artifact.stored_bytes,
        artifact_type=artifact.artifact_type,
        mime_type=artifact.mime_type,
        description=artifact.description,
        tags=artifact.tags,
        parent_digest=artifact.parent_digest.hex(),
        created_by=artifact.created_by,
        revision=artifact.revision,
    )
    message.create_time.FromNanoseconds(artifact.create_time_ns)
    fill_map(message.metadata, artifact.metadata)
    return message


def _moment(request: Any, field: str) -> int | None:
    """Nanoseconds of a timestamp; None where there is none."""
    if not request.HasField(field):
        return None
    moment = getattr(request, field)
    return int(moment.seconds) * 10**9 + int(moment.nanos)
