"""The keys of backups: one for each tenant, kept in its backups' manifests under the master key."""

from __future__ import annotations

from typing import Protocol

from services.common.errors import Reason, ServiceError
from services.state.backup.model import TenantPart


class KeySealer(Protocol):
    """Keeps the keys of backups under a master key."""

    def seal_key(self, key: bytes) -> str:
        """The key as a manifest may have it."""

    def open_key(self, sealed: str) -> bytes:
        """The key again.

        Raises:
            ServiceError: it was sealed with another master key.
        """


class Sealing:
    """Which key a tenant's files have."""

    def __init__(self, sealer: KeySealer | None) -> None:
        """`sealer`: None: files are not encrypted."""
        self._sealer = sealer

    def open(self, part: TenantPart) -> bytes | None:
        """The key of what a backup has of a tenant; None where it is not encrypted.

        Raises:
            ServiceError: CONFIG_INVALID where there is no master key; what `KeySealer` raises.
        """
        if not part.sealed_key:
            return None
        if self._sealer is None:
            raise ServiceError(
                Reason.CONFIG_INVALID,
                "The backup is encrypted, and this deployment has no master key.",
                key="state.master_key_file",
            )
        return self._sealer.open_key(part.sealed_key)
