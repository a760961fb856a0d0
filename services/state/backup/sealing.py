"""The keys of backups: one for each tenant, kept in its backups' manifests under the master key.

All backups of a tenant share a key where they can, so that they can share files. A manifest whose
key is wrapped with the master key before the one in force gets it wrapped anew.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from services.common.errors import ServiceError
from services.state.backup.model import Manifest, TenantPart
from services.state.file_key import FileKey
from services.state.keyring import Keyring
from services.state.layout.vault import ID_BYTES


class Sealing:
    """Which key a tenant's files have."""

    def __init__(self, ring: Keyring | None) -> None:
        """`ring`: holds the master key; None, or without one: files are not encrypted."""
        self._ring = ring or Keyring()

    def open(self, part: TenantPart) -> bytes | None:
        """The key of what a backup has of a tenant; None where it is not encrypted.

        Raises:
            ServiceError: MASTER_KEY_MISSING, MASTER_KEY_WRONG, RECORD_CORRUPT.
        """
        if not part.sealed_key:
            return None
        return self._ring.unwrap_file_key(bytes.fromhex(part.sealed_key)).raw

    def key_for(self, tenant: str, manifests: Iterable[Manifest]) -> tuple[bytes | None, str]:
        """The key that a new backup of a tenant has, and that key as its manifest has it.

        Args:
            tenant: Whose.
            manifests: Backups that are there, the newest first.
        """
        if not self._ring.is_on:
            return None, ""
        for manifest in manifests:
            part = manifest.part(tenant)
            if part is not None and part.sealed_key:
                try:
                    key = self.open(part)
                except ServiceError:  # of another master key: a new one then
                    continue
                assert key is not None
                return key, self._sealed(part.sealed_key, key)
        key = FileKey().raw
        return key, self._wrapped(key)

    def renewed(self, manifest: Manifest) -> Manifest:
        """The manifest with its keys under the master key in force; itself where they are."""
        parts = [self._renewed(part) for part in manifest.tenants]
        if parts == manifest.tenants:
            return manifest
        return msgspec.structs.replace(manifest, tenants=parts)

    def _renewed(self, part: TenantPart) -> TenantPart:
        if not (self._ring.is_on and part.sealed_key):
            return part
        try:
            key = self.open(part)
        except ServiceError:
            return part
        assert key is not None
        return msgspec.structs.replace(part, sealed_key=self._sealed(part.sealed_key, key))

    def _sealed(self, sealed: str, key: bytes) -> str:
        current = self._ring.masters.current
        assert current is not None
        is_current = bytes.fromhex(sealed)[:ID_BYTES] == current.key_id
        return sealed if is_current else self._wrapped(key)

    def _wrapped(self, key: bytes) -> str:
        return self._ring.wrap_file_key(FileKey(key)).hex()
