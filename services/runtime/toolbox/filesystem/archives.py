"""Reading and writing zip, tar and gzip, one member after another, within limits.

Names and sizes in an archive are a stranger's: names become paths of the tenant's folder or are
refused, sizes are counted as bytes come.
"""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, Protocol, Self, cast

from services.runtime.toolbox.model import MIB, ToolError, failed, limit_exceeded
from services.runtime.toolbox.paths import checked_path, refused
from services.runtime.toolbox.texts import ENCODINGS

FILE_BYTES_MAX = 100 * MIB
TOTAL_BYTES_MAX = 1024 * MIB
MEMBERS_MAX = 10_000
RATIO_MAX = 200
"""Times that what comes out may be larger than the archive, beyond `RATIO_FREE_BYTES`."""
RATIO_FREE_BYTES = 16 * MIB
_CHUNK_BYTES = 256 * 1024
_TIME_MIN = (1980, 1, 1, 0, 0, 0)
"""What zip can tell."""

BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError,
    NotImplementedError, ValueError, UnicodeError, RuntimeError, OverflowError,
)  # fmt: skip
"""What the libraries raise for archives that are none, or are encrypted."""
assert {bz2.BZ2File, lzma.LZMAFile}
assert "cp437" in ENCODINGS  # loaded here, for nothing can be in the jail


@dataclass(frozen=True, slots=True)
class Member:
    """One file or folder in an archive."""

    name: str
    is_folder: bool
    size: int
    """As the archive says."""
    stored: int | None = None
    """Compressed bytes, where the archive says."""


class Reader(Protocol):
    """An archive that is read."""

    def members(self) -> Iterator[Member]:
        """Each, in the archive's order."""
        ...

    def data(self, member: Member) -> IO[bytes]:
        """What a file holds; only of the member that came last."""
        ...


def format_of(path: str, asked: str | None) -> str:
    """`zip`, `tar`, `tar.gz`, `tar.bz2`, `tar.xz` or `gz`, by a file's name where nobody says.

    Raises:
        ToolError: FIELD_INVALID.
    """
    if asked:
        return asked
    name = path.lower()
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending):
            return kind
    raise ToolError(
        "FIELD_INVALID",
        f"{path} has none of the endings {', '.join(_ENDINGS)}; format says what it is.",
        field="path",
    )


_ENDINGS = {
    ".zip": "zip", ".tar.gz": "tar.gz", ".tgz": "tar.gz", ".tar.bz2": "tar.bz2",
    ".tar.xz": "tar.xz", ".tar": "tar", ".gz": "gz",
}  # fmt: skip
FORMATS = tuple(dict.fromkeys(_ENDINGS.values()))


@contextmanager
def reading(kind: str, file: BinaryIO, name: str) -> Iterator[Reader]:
    """An archive of the kind; `name`: of its file.

    Raises:
        ToolError: TOOL_FAILED where it is broken.
    """
    try:
        if kind == "zip":
            with zipfile.ZipFile(file) as archive:
                yield _Zip(archive)
        elif kind == "gz":
            yield _Gzip(file, name)
        else:
            with tarfile.open(fileobj=file, mode="r:*") as archive:
                yield _Tar(archive)
    except BROKEN as error:
        raise failed(f"{name} cannot be read as {kind}: {error}.", path=name) from None


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def members(self) -> Iterator[Member]:
        """As `Reader`."""
        for info in self._archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused_member(info.filename, "is a link or a device")
            yield Member(info.filename, info.is_dir(), info.file_size, info.compress_size)

    def data(self, member: Member) -> IO[bytes]:
        """As `Reader`."""
        return self._archive.open(member.name)


class _Tar:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._last: tarfile.TarInfo | None = None

    def members(self) -> Iterator[Member]:
        """As `Reader`."""
        while (info := self._archive.next()) is not None:
            # The library keeps every member it has met; only the last is needed.
            self._archive.members = []  # type: ignore[attr-defined]
            if not info.isdir() and info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise _refused_member(info.name, "is a link, a device or a sparse file")
            self._last = info
            yield Member(info.name, info.isdir(), info.size)

    def data(self, member: Member) -> IO[bytes]:
        """As `Reader`."""
        assert self._last is not None
        data = self._archive.extractfile(self._last)
        if data is None:
            raise _refused_member(member.name, "holds nothing")
        return data


class _Gzip:
    """One file, which has the archive's name without its ending."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = PurePosixPath(name).stem

    def members(self) -> Iterator[Member]:
        """As `Reader`; its size is known when it has been read only."""
        yield Member(self._name, is_folder=False, size=-1)

    def data(self, member: Member) -> IO[bytes]:
        """As `Reader`."""
        del member
        return cast("IO[bytes]", gzip.GzipFile(fileobj=self._file))


class Counter:
    """Members and bytes against the limits."""

    def __init__(self, archive_bytes: int) -> None:
        """`archive_bytes`: size of the archive; 0 where it is being made."""
        self._most = max(RATIO_MAX * archive_bytes, RATIO_FREE_BYTES)
        self._is_made = not archive_bytes
        self._names: set[str] = set()
        self.members = 0
        self.total = 0

    def accept(self, member: Member) -> str:
        """The member's path beneath the folder that it goes to.

        Raises:
            ToolError: PATH_REFUSED, LIMIT_EXCEEDED, TOOL_FAILED for a name that came before.
        """
        self.members += 1
        if self.members > MEMBERS_MAX:
            raise limit_exceeded("path (members)", self.members, MEMBERS_MAX)
        if member.size > FILE_BYTES_MAX:
            raise limit_exceeded(
                f"path ({member.name[:200]})", member.size, FILE_BYTES_MAX, "bytes"
            )
        path = member_path(member.name)
        if not member.is_folder and path in self._names:
            raise failed(f"The archive has {path} twice.", path=path)
        self._names.add(path)
        return path

    def copy(self, source: IO[bytes], target: IO[bytes], name: str) -> int:
        """Copy a member's bytes and count them.

        Raises:
            ToolError: LIMIT_EXCEEDED.
        """
        size = 0
        while chunk := source.read(_CHUNK_BYTES):
            size += len(chunk)
            self.total += len(chunk)
            if size > FILE_BYTES_MAX:
                raise limit_exceeded(f"path ({name[:200]})", size, FILE_BYTES_MAX, "bytes")
            if self.total > TOTAL_BYTES_MAX:
                raise limit_exceeded("path (total)", self.total, TOTAL_BYTES_MAX, "bytes")
            if not self._is_made and self.total > self._most:
                text = f"times its size, {RATIO_MAX}: this archive is made to fill disks"
                raise limit_exceeded("path (unpacked)", self.total, self._most, f"bytes ({text})")
            target.write(chunk)
        return size


def member_path(name: str) -> str:
    """The path that a member's name means.

    Raises:
        ToolError: PATH_REFUSED where it leads out of the folder, or might on another machine.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _refused_member(ascii(name), "is no text in UTF-8") from None
    if "\\" in name or any(ord(sign) < ord(" ") for sign in name):
        raise _refused_member(name, "has a backslash or a control character")
    return checked_path(name, "path (a member's name)")


def _refused_member(name: str, rule: str) -> ToolError:
    return refused("path", f"has the member {name[:200]!r}, which {rule}")


class Writer:
    """An archive that is made."""

    def __init__(self, kind: str, file: BinaryIO, level: int) -> None:
        self._zip: zipfile.ZipFile | None = None
        self._tar: tarfile.TarFile | None = None
        self._gzip: gzip.GzipFile | None = None
        if kind == "zip":
            self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=level)
        elif kind == "gz":
            self._gzip = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=level, filename="")
        else:
            self._tar = _tar_writer(kind, file, level)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for archive in (self._zip, self._tar, self._gzip):
            if archive is not None:
                archive.close()

    @property
    def holds_one(self) -> bool:
        """Whether it can hold one file only."""
        return self._gzip is not None

    def add(
        self, name: str, size: int, modify_time: float, source: BinaryIO | None, counter: Counter
    ) -> None:
        """Add a file, or a folder where there is no source."""
        if self._zip is not None:
            moment = _moment(modify_time)
            info = zipfile.ZipInfo(name + ("" if source else "/"), moment)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o644 if source else 0o40755) << 16
            with self._zip.open(info, "w") as target:
                if source:
                    counter.copy(source, target, name)
        elif self._tar is not None:
            entry = tarfile.TarInfo(name)
            entry.mtime = int(modify_time)
            entry.size, entry.mode = (size, 0o644) if source else (0, 0o755)
            entry.type = tarfile.REGTYPE if source else tarfile.DIRTYPE
            counter.total += entry.size
            self._tar.addfile(entry, source)
        elif self._gzip is not None and source:
            counter.copy(source, cast("IO[bytes]", self._gzip), name)


def _tar_writer(kind: str, file: BinaryIO, level: int) -> tarfile.TarFile:
    how: dict[str, Any] = {
        "tar": {"mode": "w:"},
        "tar.gz": {"mode": "w:gz", "compresslevel": level},
        "tar.bz2": {"mode": "w:bz2", "compresslevel": max(level, 1)},
        "tar.xz": {"mode": "w:xz", "preset": level},
    }
    opening: Any = tarfile.open
    made: tarfile.TarFile = opening(fileobj=file, **how[kind])
    return made


def _moment(seconds: float) -> tuple[int, int, int, int, int, int]:
    """A time as zip keeps it, in UTC."""
    from_year = dt.datetime.fromtimestamp(seconds, dt.UTC).timetuple()[:6]
    return max(from_year, _TIME_MIN)
