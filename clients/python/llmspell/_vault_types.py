"""What is got about keys of what is kept encrypted. `types` has it all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class DataKey:
    """One version of a tenant's data key; the key itself never leaves the server."""

    version: int
    create_time: datetime | None
    master_key_id: str
    """The master key that wraps it."""
    current: bool
    """Whether new values are sealed with it."""


@dataclass(frozen=True, slots=True)
class VaultStatus:
    """How things stand with keys."""

    encrypted: bool
    """Whether what is written is encrypted."""
    master_key_id: str
    """Tells the master key in force from others."""
    data_key_count: int
    """Of all tenants, older versions included."""
    older_count: int
    """Those that values are still to be moved away from."""
    previous_wrapped_count: int
    """Those that the master key before still wraps."""
    plain_left: bool
    """Whether values from before encryption may be left."""
    versions: tuple[DataKey, ...] = ()
    """Of the tenant that was asked for."""
