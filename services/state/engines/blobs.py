"""Where blobs are: files in a folder beside the database, or memory.

`<data>/blobs/<tenant>/<first two digits>/<digest>` is a blob, `<data>/incoming/` holds what is not
one yet. A blob comes into place by a rename, flushed before and its folder after: it is there whole
or not at all.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from services.common import failpoints
from services.common.errors import Reason, ServiceError
from services.common.store import RESERVE_BYTES, is_full, storage_full
from services.state.blob_format import Blob, BlobKey, BlobReader, BlobWriter, Sealing

_ROOM_BYTES = 2 * RESERVE_BYTES
"""Room on the disk that uploads leave for the database, which needs some to remove anything."""
_SLICE = 256


class FolderBlobs:
    """Blobs as files. See `blobs.Blobs`."""

    def __init__(self, data: Path, sealing: Sealing) -> None:
        """Make the folders where they are missing, and remove what a crash left in `incoming`.

        Raises:
            ServiceError: STORE_NOT_WRITABLE.
        """
        self.path = data / "blobs"
        self.incoming = data / "incoming"
        self._sealing = sealing
        self._numbers = itertools.count(1)
        self._folders = threading.Lock()
        """Held while folders come and go."""
        try:
            shutil.rmtree(self.incoming, ignore_errors=True)
            for folder in (self.path, self.incoming):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _flush(data)
        except OSError as error:
            raise ServiceError(
                Reason.STORE_NOT_WRITABLE,
                f"The data folder {data} cannot hold artifacts: {error}.",
                path=data,
            ) from error

    def begin(self, tenant: str) -> FolderUpload:
        """See `blobs.Blobs`."""
        with _full_told():
            return FolderUpload(self, tenant, self._sealing, self._aside())

    def open(self, tenant: str, digest: bytes) -> BlobReader:
        """See `blobs.Blobs`."""
        file = self.place(tenant, digest).open("rb")
        try:
            return BlobReader(file, tenant, digest, self._sealing)
        except BaseException:
            file.close()
            raise

    def remove(self, keys: Iterable[BlobKey]) -> None:
        """See `blobs.Blobs`. A crash in between leaves nothing that the next start does not."""
        for tenant, digest in keys:
            with suppress(FileNotFoundError):
                failpoints.hit("blobs.before_unlink")
                self.place(tenant, digest).unlink()

    def remove_folder(self, tenant: str) -> None:
        """See `blobs.Blobs`."""
        folder = self._folder(tenant)
        with self._folders, suppress(OSError):  # one that is not empty stays
            for part in list(folder.iterdir()):
                with suppress(OSError):
                    part.rmdir()
            folder.rmdir()

    def stored(self) -> Iterator[list[BlobKey]]:
        """See `blobs.Blobs`. Files that have no blob's name are let be."""
        for folder in sorted(self.path.iterdir()):
            tenant = unquote(folder.name)
            for part in _inside(folder):
                digests = filter(None, (_digest_of(file.name) for file in _inside(part)))
                while some := list(itertools.islice(digests, _SLICE)):
                    yield [BlobKey(tenant, digest) for digest in some]

    def place(self, tenant: str, digest: bytes) -> Path:
        """The file of a blob."""
        name = digest.hex()
        return self._folder(tenant) / name[:2] / name

    def put_in_place(self, aside: Path, tenant: str, digest: bytes) -> None:
        """Give a file that was flushed its name, and flush that.

        Raises:
            OSError: whether it has its name is not known.
        """
        place = self.place(tenant, digest)
        with self._folders:
            self._make(place.parent)
            failpoints.hit("blobs.before_rename")
            aside.replace(place)
        failpoints.hit("blobs.after_rename")
        _flush(place.parent)

    def check_room(self) -> None:
        """Refuse to fill the disk to its last byte.

        Raises:
            ServiceError: STORAGE_FULL.
        """
        disk = os.statvfs(self.incoming)
        if disk.f_bavail * disk.f_frsize < _ROOM_BYTES:
            raise storage_full()

    def _aside(self) -> Path:
        return self.incoming / f"{next(self._numbers)}.part"

    def _make(self, folder: Path) -> None:
        """Make a folder with a name that lasts."""
        missing = list(
            itertools.takewhile(lambda each: not each.is_dir(), (folder, *folder.parents))
        )
        for each in reversed(missing):
            each.mkdir(mode=0o700)
            _flush(each.parent)

    def _folder(self, tenant: str) -> Path:
        return self.path / quote(tenant, safe="~").replace(".", "%2E")


class FolderUpload:
    """A file in `incoming`. See `blobs.Upload`."""

    def __init__(self, blobs: FolderBlobs, tenant: str, sealing: Sealing, path: Path) -> None:
        """Makes the file.

        Raises:
            OSError: it cannot be made.
        """
        blobs.check_room()
        self._blobs = blobs
        self._tenant = tenant
        self._path = path
        self._turn = threading.Lock()
        """A caller who has gone discards while a thread still writes."""
        self._ended = False
        self.is_published = False
        self._digest = b""
        self._file: BinaryIO = os.fdopen(
            os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb"
        )
        try:
            self._writer = BlobWriter(self._file, tenant, sealing)
        except BaseException:
            self.discard()
            raise

    def write(self, content: bytes) -> None:
        """See `blobs.Upload`."""
        with self._turn, _full_told():
            if not self._ended:
                self._blobs.check_room()
                self._writer.write(content)

    def finish(self) -> Blob:
        """See `blobs.Upload`."""
        with self._turn, _full_told():
            blob = self._writer.finish()
            self._file.flush()
            failpoints.hit("blobs.before_flush")
            os.fsync(self._file.fileno())
            self._file.close()
            self._digest = blob.digest
            return blob

    def publish(self) -> None:
        """See `blobs.Upload`."""
        with self._turn, _full_told():
            assert self._digest, "finished before it is published"
            self._blobs.put_in_place(self._path, self._tenant, self._digest)
            self._ended = self.is_published = True

    def discard(self) -> None:
        """See `blobs.Upload`."""
        with self._turn:
            if self._ended:
                return
            self._ended = True
            with suppress(OSError):  # what a full disk did not take
                self._file.close()
            with suppress(OSError):  # the next start removes it
                self._path.unlink()


class MemoryBlobs:
    """Blobs in memory, gone with the process. See `blobs.Blobs`."""

    def __init__(self, sealing: Sealing) -> None:
        self._sealing = sealing
        self._files: dict[BlobKey, bytes] = {}

    def begin(self, tenant: str) -> MemoryUpload:
        """See `blobs.Blobs`."""
        return MemoryUpload(self._files, tenant, self._sealing)

    def open(self, tenant: str, digest: bytes) -> BlobReader:
        """See `blobs.Blobs`."""
        file = self._files.get(BlobKey(tenant, digest))
        if file is None:
            raise FileNotFoundError
        return BlobReader(io.BytesIO(file), tenant, digest, self._sealing)

    def remove(self, keys: Iterable[BlobKey]) -> None:
        """See `blobs.Blobs`."""
        for key in keys:
            self._files.pop(key, None)

    def remove_folder(self, tenant: str) -> None:
        """There are none."""

    def stored(self) -> Iterator[list[BlobKey]]:
        """See `blobs.Blobs`."""
        yield list(self._files)


class MemoryUpload:
    """Bytes in memory. See `blobs.Upload`."""

    def __init__(self, files: dict[BlobKey, bytes], tenant: str, sealing: Sealing) -> None:
        self._files = files
        self._tenant = tenant
        self._file = io.BytesIO()
        self._writer = BlobWriter(self._file, tenant, sealing)
        self._digest = b""
        self.is_published = False

    def write(self, content: bytes) -> None:
        """See `blobs.Upload`."""
        self._writer.write(content)

    def finish(self) -> Blob:
        """See `blobs.Upload`."""
        blob = self._writer.finish()
        self._digest = blob.digest
        return blob

    def publish(self) -> None:
        """See `blobs.Upload`."""
        self._files[BlobKey(self._tenant, self._digest)] = self._file.getvalue()
        self.is_published = True

    def discard(self) -> None:
        """See `blobs.Upload`."""


@contextmanager
def _full_told() -> Iterator[None]:
    """A disk that is full is told as that."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise storage_full() from error
        raise


def _inside(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.iterdir()) if folder.is_dir() else ())


def _digest_of(name: str) -> bytes | None:
    try:
        digest = bytes.fromhex(name)
    except ValueError:
        return None
    return digest if digest.hex() == name else None


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
