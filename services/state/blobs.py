"""Blobs: the bytes of artifacts, beside the database, once for each tenant and digest.

They are kept by tenant: whether another tenant has the same bytes is nobody's business. All calls
here block and belong into a thread. Which blobs are needed says the database (`artifact_step`);
that none is removed while it is being added says `Pins`.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

from services.common.errors import Reason, ServiceError
from services.state.blob_format import Blob, BlobKey, BlobReader, Checksums, Sealing
from services.state.engines.blobs import FolderBlobs, MemoryBlobs

UNREADABLE = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR, errno.ENOTDIR})
"""What the system says of a file that is there and cannot be read."""


class Upload(Protocol):
    """Bytes on their way in. Nobody sees them before `publish`."""

    is_published: bool
    """Whether they are in place."""

    def write(self, content: bytes) -> None:
        """Take the next bytes.

        Raises:
            ServiceError: STORAGE_FULL.
        """

    def finish(self) -> Blob:
        """That was all: name it, and flush it to disk.

        Raises:
            ServiceError: STORAGE_FULL.
        """

    def publish(self) -> None:
        """Put it in place, also of one that is there and perhaps damaged; it then is on disk.

        Raises:
            ServiceError: STORAGE_FULL.
        """

    def discard(self) -> None:
        """Forget it, unless it was published. Safe to call twice, and while another call runs."""


class Blobs(Protocol):
    """Keeps bytes under tenant and digest."""

    def begin(self, tenant: str) -> Upload:
        """Begin to take bytes in.

        Raises:
            ServiceError: STORAGE_FULL.
        """

    def open(self, tenant: str, digest: bytes) -> BlobReader:
        """Begin to read; what was opened can be read even if it is removed meanwhile.

        Raises:
            FileNotFoundError: it is not there.
            Damaged: it is not the content of this digest.
        """

    def remove(self, keys: Iterable[BlobKey]) -> None:
        """Remove blobs; those that are not there are skipped."""

    def remove_folder(self, tenant: str) -> None:
        """Remove what is left of a tenant that has no blobs."""

    def stored(self) -> Iterator[list[BlobKey]]:
        """All blobs that are there, a few at a time."""


BLOBS: Mapping[str, Callable[[Path, Sealing], Blobs]] = {
    "embedded": FolderBlobs,
    "memory": lambda _data, sealing: MemoryBlobs(sealing),
}
"""By the name of the engine whose artifacts they hold."""


def open_blobs(engine: str, data: Path, *, sealing: Sealing | None = None) -> Blobs:
    """The blobs of an engine, rid of uploads that a crash has interrupted.

    Args:
        engine: A key of `BLOBS`.
        data: The store's folder, already this process's own.
        sealing: How pieces are sealed; None: with checksums.

    Raises:
        ServiceError: STORE_NOT_WRITABLE.
    """
    return BLOBS[engine](data, sealing or Checksums())


class Pins:
    """Which blobs are being added, and which are being removed: never one of them both.

    For the event loop only.
    """

    def __init__(self) -> None:
        self._held: dict[BlobKey, int] = {}
        self._doomed: dict[BlobKey, asyncio.Event] = {}

    @asynccontextmanager
    async def hold(self, key: BlobKey) -> AsyncIterator[None]:
        """While this is open the blob is not removed; waits for the end of a removal.

        Take it before the blob is put in place, and keep it until its reference is committed.
        """
        while (ending := self._doomed.get(key)) is not None:
            await ending.wait()
        self._held[key] = self._held.get(key, 0) + 1
        try:
            yield
        finally:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]

    @contextmanager
    def doom(self, keys: Iterable[BlobKey]) -> Iterator[list[BlobKey]]:
        """Those of the blobs that nobody holds; until this is closed nobody can."""
        free = [key for key in keys if key not in self._held and key not in self._doomed]
        ending = asyncio.Event()
        self._doomed.update(dict.fromkeys(free, ending))
        try:
            yield free
        finally:
            for key in free:
                del self._doomed[key]
            ending.set()


def corrupt(digest: bytes, why: str) -> ServiceError:
    """A blob is missing or damaged."""
    return ServiceError(
        Reason.ARTIFACT_CORRUPT,
        f"The bytes of the artifact {digest.hex()} are damaged ({why}) and are not returned. "
        "Store them again, or restore a backup.",
        digest=digest.hex(),
    )
