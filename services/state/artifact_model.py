"""What artifacts are to the engines: frozen values, and nothing of the wire.

Times are nanoseconds since the Unix epoch, digests are the 32 bytes of blake3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one version of a name, beside its bytes. The names of fields are stored."""

    scope: str
    name: str
    version: int
    """From 1; rises with each store under the name."""
    sequence: int
    """From 1; rises with each store in the scope."""
    digest: bytes
    size_bytes: int
    stored_bytes: int
    """What its file took when it was stored."""
    create_time_ns: int
    revision: int
    artifact_type: str = ""
    mime_type: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    parent_digest: bytes = b""
    """Of the artifact that this one was made from; empty: none."""
    created_by: str = ""
    """The principal whose call stored it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An artifact that is to be stored, without its bytes."""

    scope: str
    name: str
    artifact_type: str = ""
    mime_type: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] | None = None
    parent_digest: bytes = b""
    created_by: str = ""
    expected_digest: bytes = b""
    """What the bytes must have; empty: any."""
    expected_size_bytes: int | None = None
    keep_versions: int = 0
    """Remove older versions of the name beyond so many; 0: keep all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which artifact is meant: by name, digest or sequence; all that is given must hold."""

    scope: str
    name: str = ""
    version: int = 0
    """With a name; 0: the newest."""
    digest: bytes = b""
    """Without name and sequence: the newest that has it."""
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which artifacts of a scope to list; everything given must hold."""

    scope: str
    artifact_type: str = ""
    name_pattern: str = ""
    """`*` stands for any characters, `?` for one."""
    tags: tuple[str, ...] = ()
    """All of them."""
    created_after_ns: int | None = None
    """Then or later."""
    created_before_ns: int | None = None
    """Before then."""
    size_bytes_min: int | None = None
    size_bytes_max: int | None = None
    newest_only: bool = False
    """Of each name the newest version only."""
    newest_first: bool = False


@dataclass(frozen=True, slots=True)
class ArtifactPage:
    """Artifacts in order of sequence."""

    artifacts: Sequence[Artifact]
    after: int | None
    """Ask on after this sequence; None at the end."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store did."""

    artifact: Artifact
    revision: int
