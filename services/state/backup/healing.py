"""Bytes of artifacts that are damaged, put back from a backup that has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import msgspec

from services.common.errors import ServiceError
from services.state.backup.model import TenantPart
from services.state.backup.service import Backups
from services.state.blob_format import BlobKey

log = logging.getLogger(__name__)


class Healer:
    """Heals from the backups of one folder."""

    def __init__(self, backups: Backups) -> None:
        self._backups = backups

    async def heal(self, tenant: str, digest: str) -> bool:
        """Put an artifact's bytes back, from the newest backup that has them whole; whether it did.

        Args:
            tenant: Whose.
            digest: blake3 of the bytes, hexadecimal.
        """
        care = self._backups.blob_care
        if care is None:
            return False
        for part in await asyncio.to_thread(lambda: list(self._parts(tenant, digest))):
            try:
                async with care.held([BlobKey(tenant, bytes.fromhex(digest))]):
                    key = self._backups.sealing.open(part)
                    await care.put_back(self._backups.folder, part, key)
            except (ServiceError, OSError) as error:  # a damaged one, or no room: the next
                log.warning("an artifact was not healed", extra={"why": str(error)})
                continue
            log.warning("damaged bytes of an artifact are whole again", extra={"digest": digest})
            return True
        return False

    def _parts(self, tenant: str, digest: str) -> Iterator[TenantPart]:
        """Of each backup that has the bytes, the newest first, what it has of them alone."""
        for manifest in self._backups.manifests(tenant):
            part = manifest.part(tenant)
            blobs = [blob for blob in part.blobs if blob.digest == digest] if part else []
            if part and blobs:
                yield msgspec.structs.replace(part, databases=[], blobs=blobs)
