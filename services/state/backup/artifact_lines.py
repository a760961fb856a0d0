"""Artifacts as lines, beside the files of their bytes.

Where an artifact stands in the orders, and how many need its bytes, follows from the lines.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from services.common.limits import ARTIFACT_METADATA_BYTES_MAX, SCOPE_BYTES_MAX
from services.common.scopes import parse_scope
from services.state import artifact_rules as rules
from services.state import session_rules
from services.state.artifact_model import Artifact, Draft
from services.state.backup.lines import (
    Form,
    Number,
    Record,
    Revision,
    Time,
    UnfitError,
    check,
    keep_metadata,
    redacted,
    tell_metadata,
)
from services.state.layout import artifacts as layout
from services.state.layout import sessions
from services.state.layout.sessions import Held

_NUMBER = struct.Struct(">Q")
_CREATED_BY_BYTES_MAX = 1024
_TENANT = "t"


class ArtifactLine(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A line of `artifacts.jsonl`. Its bytes are in the file `blobs/DIGEST`, in hexadecimal."""

    scope: str
    name: str
    version: Number
    sequence: Number
    digest: str
    size_bytes: Number
    stored_bytes: Number
    create_time_ns: Time
    revision: Revision
    artifact_type: str = ""
    mime_type: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] | None = None
    metadata_msgpack: bytes | None = None
    parent_digest: str = ""
    created_by: str = ""


class CheckpointArtifactLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of `checkpoint_artifacts.jsonl`: an artifact that a checkpoint has."""

    session_id: str
    checkpoint_id: str
    artifact: ArtifactLine

    @property
    def digest(self) -> str:
        """Of its bytes."""
        return self.artifact.digest

    @property
    def revision(self) -> int:
        """Of the artifact."""
        return self.artifact.revision


class ArtifactNameLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line of `artifact_names.jsonl`: the newest version that a name ever had."""

    scope: str
    name: str
    newest_version: Number
    count: Number


class ArtifactScopeLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line of `artifact_scopes.jsonl`: the last sequence that a scope ever had."""

    scope: str
    last_sequence: Number


_AS_KEPT = frozenset(ArtifactLine.__struct_fields__) & frozenset(Artifact.__struct_fields__) - {
    "digest",
    "parent_digest",
    "metadata",
}


def _tell(own: bytes, stored: bytes) -> ArtifactLine:
    del own
    artifact = layout.unpack_artifact(stored)
    told = tell_metadata(artifact.metadata)
    return ArtifactLine(
        digest=artifact.digest.hex(),
        parent_digest=artifact.parent_digest.hex(),
        metadata=told.metadata or None,
        metadata_msgpack=told.metadata_msgpack,
        **{name: getattr(artifact, name) for name in _AS_KEPT},
    )


def _withhold(line: ArtifactLine) -> ArtifactLine | None:
    return redacted(
        line, "description", "tags", "created_by", maps_bytes_max=ARTIFACT_METADATA_BYTES_MAX
    )


def _keep(line: ArtifactLine) -> Record:
    artifact = Artifact(
        digest=_digest(line.digest, "digest"),
        parent_digest=_digest(line.parent_digest, "parent_digest"),
        metadata=keep_metadata(line.metadata, line.metadata_msgpack),
        **{name: getattr(line, name) for name in _AS_KEPT},
    )
    _check_scope(line.scope)
    check(artifact.digest, "digest", "must be there")
    check(line.version > 0, "version", "must be 1 or more")
    check(line.sequence > 0, "sequence", "must be 1 or more")
    rules.check_draft(_TENANT, _draft(artifact))
    rules.check_size(line.size_bytes)
    size = len(line.created_by.encode())
    check(size <= _CREATED_BY_BYTES_MAX, "created_by", f"must have {_CREATED_BY_BYTES_MAX} bytes")
    place = layout.artifact_key(_TENANT, line.scope, line.name, line.version)
    return _own(place), layout.pack_artifact(artifact)


def _tell_held(own: bytes, stored: bytes) -> CheckpointArtifactLine:
    session_id, checkpoint_id, _ = own.split(b"\0", 2)
    return CheckpointArtifactLine(session_id.decode(), checkpoint_id.decode(), _tell(b"", stored))


def _keep_held(line: CheckpointArtifactLine) -> Record:
    session_rules.check_session_id(line.session_id)
    session_rules.check_checkpoint_id(line.checkpoint_id)
    scope = f"session:{line.session_id}"
    check(line.artifact.scope == scope, "artifact.scope", f"must be {scope}")
    stored = _keep(line.artifact)[1]
    held = Held(line.artifact.sequence, bytes.fromhex(line.artifact.digest))
    checkpoint = (_TENANT, line.session_id, line.checkpoint_id)
    return _own(sessions.checkpoint_artifact_key(*checkpoint, held)), stored


def _withhold_held(line: CheckpointArtifactLine) -> CheckpointArtifactLine | None:
    artifact = _withhold(line.artifact)
    return None if artifact is None else msgspec.structs.replace(line, artifact=artifact)


def _draft(artifact: Artifact) -> Draft:
    return Draft(
        scope=artifact.scope,
        name=artifact.name,
        artifact_type=artifact.artifact_type,
        mime_type=artifact.mime_type,
        description=artifact.description,
        tags=artifact.tags,
        metadata=artifact.metadata,
        parent_digest=artifact.parent_digest,
    )


def _digest(text: str, field: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b"?"
    if digest.hex() != text or len(digest) not in {0, layout.DIGEST_BYTES}:
        raise UnfitError("must be the 64 hexadecimal digits of a blake3 digest", field)
    return digest


def _check_scope(scope: str) -> None:
    check(len(scope) <= SCOPE_BYTES_MAX, "scope", "is too long")
    printed = str(parse_scope(scope))
    check(printed == scope, "scope", f"must be written as {printed}")


def _tell_name(own: bytes, stored: bytes) -> ArtifactNameLine:
    scope, name = own.decode().split("\0")
    newest, count = layout.unpack_name(stored)
    return ArtifactNameLine(scope=scope, name=name, newest_version=newest, count=count)


def _keep_name(line: ArtifactNameLine) -> Record:
    _check_scope(line.scope)
    rules.check_name(line.name)
    place = layout.name_key(_TENANT, line.scope, line.name)
    return _own(place), layout.pack_name(line.newest_version, line.count)


def _tell_scope(own: bytes, stored: bytes) -> ArtifactScopeLine:
    return ArtifactScopeLine(scope=own.decode(), last_sequence=layout.unpack_number(stored))


def _keep_scope(line: ArtifactScopeLine) -> Record:
    _check_scope(line.scope)
    return line.scope.encode(), layout.pack_number(line.last_sequence)


def _own(key: bytes) -> bytes:
    return key[len(_TENANT) + 1 :]


ARTIFACT = Form(ArtifactLine, _tell, _keep, _withhold)
CHECKPOINT_ARTIFACT = Form(CheckpointArtifactLine, _tell_held, _keep_held, _withhold_held)
ARTIFACT_NAME = Form(ArtifactNameLine, _tell_name, _keep_name, lambda _line: None)
ARTIFACT_SCOPE = Form(ArtifactScopeLine, _tell_scope, _keep_scope, lambda _line: None)
