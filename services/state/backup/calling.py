"""Who calls on backups, and what a backup is to be made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.state.blob_format import BlobKey


class Caller(Protocol):
    """Who calls."""

    @property
    def tenant(self) -> str:
        """For whom."""


class Callee(Protocol):
    """What is called."""

    @property
    def path(self) -> str:
        """As on the wire."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A backup that is to be made."""

    owner: str
    backup_id: str
    now_ns: int
    full: bool
    names: Sequence[str]
    """The tenants."""
    keys: Sequence[BlobKey]
    """The bytes of artifacts that they have."""
