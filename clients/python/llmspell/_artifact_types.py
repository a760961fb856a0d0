"""What a user of the client sees of artifacts; see `llmspell.types`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, TypeAlias

Content: TypeAlias = (
    "bytes | bytearray | memoryview | os.PathLike[str] | BinaryIO | Iterable[bytes]"
    " | AsyncIterable[bytes]"
)
"""Bytes, the path of a file, a file that is open for reading bytes, or pieces of bytes. Pieces that
have to be awaited are for the asyncio client only."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What is known of one version of a name."""

    scope: str
    name: str
    version: int
    """From 1; each store under the name adds one."""
    sequence: int
    """The artifact's number in its scope, in the order of storing."""
    digest: str
    """blake3 of the bytes, in hexadecimal digits."""
    size_bytes: int
    stored_bytes: int
    """What they took on disk when they were stored."""
    artifact_type: str = ""
    mime_type: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    parent_digest: str = ""
    """Of the artifact that this one was made from; empty: none."""
    create_time: datetime | None = None
    created_by: str = ""
    """The key that stored it."""
    revision: int = 0
