"""The bytes of artifacts in backups: read while they cannot be removed, put back before records.

A blob is a row of chunks of a megabyte, each named, compressed and sealed as chunks of records are.
One that an earlier backup has is not read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager

from services.common.damage import Damages, name_of
from services.common.store import View
from services.state.backup.chunks import CHUNK_BYTES
from services.state.backup.folder import BackupFolder
from services.state.backup.model import BlobRef, ChunkRef, TenantPart, corrupt
from services.state.backup.restoring import read_file
from services.state.blob_format import BlobKey, BlobReader, Damaged
from services.state.blobs import Blobs, Pins
from services.state.blobs import corrupt as blob_corrupt
from services.state.layout import BLOB_REFS, tenant_prefix
from services.state.layout.artifacts import split_blob_key

Write = Callable[[bytes], ChunkRef]
"""Puts bytes into the folder; the chunk that they became."""


class BlobCare:
    """Blobs of one keeper on their way into backups and back."""

    def __init__(self, blobs: Blobs, pins: Pins, damages: Damages | None = None) -> None:
        """`damages`: of those that are healed."""
        self._damages = Damages() if damages is None else damages
        self._blobs = blobs
        self._pins = pins

    @asynccontextmanager
    async def held(self, keys: Iterable[BlobKey]) -> AsyncIterator[None]:
        """While this is open none of them is removed."""
        async with AsyncExitStack() as stack:
            for key in keys:
                await stack.enter_async_context(self._pins.hold(key))
            yield

    def copy(self, tenant: str, digest: bytes, write: Write) -> BlobRef:
        """Read a blob and write it as chunks. In a thread.

        Raises:
            ServiceError: ARTIFACT_CORRUPT, STORAGE_FULL.
        """
        refs: list[ChunkRef] = []
        with self.reading(BlobKey(tenant, digest)) as reader:
            for begin in range(0, reader.size_bytes, CHUNK_BYTES):
                refs.append(write(reader.read(begin, CHUNK_BYTES)))  # noqa: PERF401
        return BlobRef(digest.hex(), sum(ref.plain_bytes for ref in refs), refs)

    @contextmanager
    def reading(self, key: BlobKey) -> Iterator[BlobReader]:
        """A blob to be read. In a thread.

        Raises:
            ServiceError: ARTIFACT_CORRUPT, also where that is found within.
        """
        try:
            with closing(self._blobs.open(*key)) as reader:
                yield reader
        except FileNotFoundError:
            raise blob_corrupt(key.digest, "they are missing") from None
        except Damaged as error:
            raise blob_corrupt(key.digest, str(error)) from None

    async def put_back(self, folder: BackupFolder, part: TenantPart, key: bytes | None) -> None:
        """Put all of a part's blobs in place that are not there, or damaged; hold them before.

        Raises:
            ServiceError: BACKUP_CORRUPT, STORAGE_FULL.
        """
        for blob in part.blobs:
            await asyncio.to_thread(self._put_back, folder, part.tenant, blob, key)

    def _put_back(
        self, folder: BackupFolder, tenant: str, blob: BlobRef, key: bytes | None
    ) -> None:
        digest = bytes.fromhex(blob.digest)
        if self._is_sound(tenant, digest):
            return
        upload = self._blobs.begin(tenant)
        try:
            for ref in blob.chunks:
                upload.write(read_file(folder, tenant, ref, key))
            if upload.finish().digest != digest:
                raise corrupt(blob.digest, "holds other bytes than its name says")
            upload.publish()
            self._damages.healed(name_of("artifact", blob.digest))
        finally:
            upload.discard()

    def _is_sound(self, tenant: str, digest: bytes) -> bool:
        try:
            with closing(self._blobs.open(tenant, digest)) as reader:
                for begin in range(0, reader.size_bytes, CHUNK_BYTES):
                    reader.read(begin, CHUNK_BYTES)
        except (OSError, Damaged):
            return False
        return True


def keys_in(view: View, tenants: Iterable[str]) -> list[BlobKey]:
    """Every blob that these tenants' artifacts need."""
    return [
        BlobKey(*split_blob_key(key))
        for tenant in tenants
        for key in view.keys(BLOB_REFS, tenant_prefix(tenant))
    ]


def keys_of(part: TenantPart) -> list[BlobKey]:
    """Every blob that a backup has of a tenant."""
    return [BlobKey(part.tenant, bytes.fromhex(blob.digest)) for blob in part.blobs]


def known_blobs(folder: BackupFolder, part: TenantPart | None) -> Mapping[str, BlobRef]:
    """Digest → a blob of an earlier backup, none of whose files is known to be damaged."""
    if part is None:
        return {}
    return {
        blob.digest: blob
        for blob in part.blobs
        if all(folder.seems_sound(part.tenant, ref) for ref in blob.chunks)
    }
