"""Takes a tenant that is erased out of the operator's backups of all tenants.

Its own part goes, and so does what the system's part has of it: who it was, its keys, its money.
The backups stay whole otherwise: each manifest is written anew, and the files that none names any
more are removed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import msgspec

from services.common.scopes import KEYS_SCOPE, SYSTEM_TENANT
from services.state.backup.folder import BackupFolder
from services.state.backup.making import Maker, Row
from services.state.backup.model import DatabasePart, Manifest, TenantPart
from services.state.backup.restoring import rows_of
from services.state.backup.sealing import Sealing
from services.state.layout import ITEMS, tenant_prefix
from services.state.layout.items import split_item_key, unpack_item


class _Owned(msgspec.Struct):
    """What the system's items say of whose they are."""

    tenant_id: str = ""


class Forgetting:
    """Rewrites manifests; for who is alone with the folder, in a thread."""

    def __init__(self, folder: BackupFolder, sealing: Sealing, stop: threading.Event) -> None:
        self._folder = folder
        self._sealing = sealing
        self._stop = stop

    def forget(self, tenant: str) -> int:
        """Take a tenant out of every backup of all tenants; out of how many.

        Raises:
            ServiceError: BACKUP_CORRUPT, STORAGE_FULL, MASTER_KEY_MISSING.
            OSError: a file cannot be written.
        """
        changed = 0
        for listed in self._folder.listed(""):
            if listed.manifest is not None:
                left = self._without(listed.manifest, tenant)
                if left is not listed.manifest:
                    self._folder.put_manifest(left)
                    changed += 1
        if changed:
            self._folder.remove_unnamed()
        self._folder.forget_tenant(tenant)
        return changed

    async def counts(self, tenant: str) -> tuple[int, int]:
        """Backups of its own, and backups of all tenants that have something of it."""
        return await asyncio.to_thread(
            lambda: (len(self._folder.listed(tenant)), self.holding(tenant))
        )

    def holding(self, tenant: str) -> int:
        """How many backups of all tenants have something of it; such as cannot be read may."""
        manifests = [each.manifest for each in self._folder.listed("")]
        return sum(each is None or each.part(tenant) is not None for each in manifests)

    def _without(self, manifest: Manifest, tenant: str) -> Manifest:
        parts = [
            self._system(part, tenant) if part.tenant == SYSTEM_TENANT else part
            for part in manifest.tenants
            if part.tenant != tenant
        ]
        if parts == manifest.tenants:
            return manifest
        return msgspec.structs.replace(manifest, tenants=parts)

    def _system(self, part: TenantPart, tenant: str) -> TenantPart:
        """The system's part without what is of the tenant; itself where it has nothing of it."""
        items = next((each for each in part.databases if each.name == ITEMS), None)
        key = self._sealing.open(part)
        if items is None or not any(_is_of(row, tenant) for row in self._rows(items, part, key)):
            return part
        kept = (row for row in self._rows(items, part, key) if not _is_of(row, tenant))
        maker = Maker(self._folder, stop=self._stop)
        try:
            strip = len(tenant_prefix(SYSTEM_TENANT))
            made = maker.part(SYSTEM_TENANT, {ITEMS: kept}, key, part.sealed_key, strip=strip)
        finally:
            maker.close()
        others = [each for each in part.databases if each.name != ITEMS]
        return msgspec.structs.replace(part, databases=[*made.databases, *others])

    def _rows(self, items: DatabasePart, part: TenantPart, key: bytes | None) -> Iterator[Row]:
        return rows_of(self._folder, part.tenant, items, key)


def _is_of(row: Row, tenant: str) -> bool:
    """Whether an item of the system is of this tenant."""
    _, scope, key = split_item_key(row[0])
    if scope == f"custom:money_{tenant}" or key == tenant or key.startswith(f"{tenant}/"):
        return True
    return scope == KEYS_SCOPE and _owner_of(key, row[1]) == tenant


def _owner_of(key: str, stored: bytes) -> str:
    value = unpack_item(key, stored).value
    if value is None:
        return ""
    try:
        return msgspec.json.decode(value.content, type=_Owned).tenant_id
    except msgspec.DecodeError:
        return ""
