"""Tokens and grants, as a user of the client gets them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Token:
    """What a key was exchanged for: good for a few minutes, at every process."""

    token: str = field(repr=False)
    """Given as a client's `api_key`."""
    expire_time: datetime | None
    permissions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """The operator's access to a tenant's data."""

    grant_id: str
    tenant_id: str
    principal: str
    """Who was let in."""
    permissions: tuple[str, ...]
    reason: str
    create_time: datetime | None
    expire_time: datetime | None
    """When it ends, or has ended."""
    ended: bool
