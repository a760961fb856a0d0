"""What a path of a tenant's may look like, and how one is refused."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from services.runtime.toolbox.model import ToolError, field_invalid, limit_exceeded

PATH_BYTES_MAX = 1024
NAME_BYTES_MAX = 255
DEPTH_MAX = 32
WORK = ".llmspell"
"""Folder within the tenant's for what is not finished; no path of a tenant's may name it."""
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(slots=True)
class Room:
    """What is left of the tenant's limits; counted down by this execution."""

    bytes_left: int
    files_left: int

    def take(self, size: int, files: int, field: str) -> None:
        """Count what was written; the kernel refuses a larger file from now on.

        Raises:
            ToolError: FILES_FULL.
        """
        if size > self.bytes_left:
            raise files_full(field, "runtime.tenant_files_bytes")
        if files > self.files_left:
            raise files_full(field, "runtime.tenant_files_count")
        self.bytes_left -= size
        self.files_left -= files
        most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if most == resource.RLIM_INFINITY or most > self.bytes_left:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.bytes_left, self.bytes_left))


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of a folder."""

    path: str
    """From the tenant's folder on."""
    kind: str
    """`file`, `directory`, `symlink` or `other`."""
    size_bytes: int
    modify_time: float
    """Seconds since 1970."""

    @property
    def name(self) -> str:
        """Its name in its folder."""
        return self.path.rsplit("/", 1)[-1]

    @classmethod
    def of(cls, path: str, known: os.stat_result) -> Found:
        """What the kernel says of the entry at `path`."""
        kind = _KINDS.get(stat.S_IFMT(known.st_mode), "other")
        return cls(path, kind, known.st_size, known.st_mtime)


def checked_path(path: str, field: str) -> str:
    """The path in its plain form, relative to the folder; `.` is the folder itself.

    Raises:
        ToolError: FIELD_INVALID, LIMIT_EXCEEDED or PATH_REFUSED.
    """
    if not path or "\0" in path:
        raise field_invalid(field, "must be a path without NUL")
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise limit_exceeded(field, len(os.fsencode(path)), PATH_BYTES_MAX, "bytes")
    plain = PurePosixPath(path)
    if plain.is_absolute():
        raise refused(field, "must be relative; paths begin at the tenant's own folder")
    if ".." in plain.parts:
        raise refused(field, "must not hold `..`")
    if len(plain.parts) > DEPTH_MAX:
        raise limit_exceeded(field, len(plain.parts), DEPTH_MAX, "folders deep")
    longest = max((len(os.fsencode(part)) for part in plain.parts), default=0)
    if longest > NAME_BYTES_MAX:
        raise limit_exceeded(f"{field} (a name in it)", longest, NAME_BYTES_MAX, "bytes")
    return str(plain)


def refused(field: str, rule: str) -> ToolError:
    """A path that leads where it may not."""
    return ToolError("PATH_REFUSED", f"{field} {rule}.", field=field, rule=rule)


def check_kind(descriptor: int, field: str) -> None:
    """Refuse what is neither a folder nor a plain file with one name.

    Raises:
        ToolError: PATH_REFUSED.
    """
    found = os.fstat(descriptor)
    if stat.S_ISDIR(found.st_mode):
        return
    if not stat.S_ISREG(found.st_mode):
        raise refused(field, "must be a plain file or a folder")
    if found.st_nlink > 1:
        # Its other name may be in another tenant's folder, put there by someone with more rights.
        raise refused(field, "must not be a file with several names (a hard link)")


def not_found(path: str, field: str) -> ToolError:
    """A path at which there is nothing."""
    return ToolError("FILE_NOT_FOUND", f"There is no {path}.", field=field, path=path)


def exists(path: str, field: str) -> ToolError:
    """A path at which there is something already."""
    return ToolError("FILE_EXISTS", f"{path} is there already.", field=field, path=path)


def files_full(field: str, limit: str) -> ToolError:
    """There is no room; `limit` is the setting that says so, or `disk`."""
    text = "The disk is full." if limit == "disk" else f"The tenant's files reach {limit}."
    return ToolError("FILES_FULL", text, field=field, limit=limit)


def full_or(error: OSError, field: str, room: Room | None = None) -> Exception:
    """FILES_FULL where that is what the kernel says, else the error itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return files_full(field, "disk")
    if error.errno == errno.EFBIG:
        most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if room and room.bytes_left <= most:
            return files_full(field, "runtime.tenant_files_bytes")
        text = f"There is no room: a file of this execution may have {most} bytes."
        return ToolError("FILES_FULL", text, field=field, limit=most)
    return error


def shown(path: str) -> str:
    """A path as text that any message can carry: bytes that are no UTF-8 become `�`."""
    return os.fsencode(path).decode("utf-8", "replace")


@contextlib.contextmanager
def refusing_fullness(field: str, room: Room | None) -> Iterator[None]:
    """FILES_FULL where the kernel says within the block that there is no room."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise full_or(error, field, room) from None
        raise


def refusal(number: int, path: str, field: str) -> ToolError:
    """The refusal that an error number of the kernel means for a path."""
    if number in (errno.ELOOP, errno.EXDEV):
        return refused(field, "must not lead through a link, or out of the tenant's folder")
    if number in (errno.ENOENT, errno.ENOTDIR):
        return not_found(path, field)
    if number in (errno.EEXIST, errno.EISDIR):
        return exists(path, field)
    if number in (errno.EACCES, errno.EPERM, errno.ENXIO):
        return refused(field, "must be a plain file or a folder that tools may open")
    if number in _FULL:
        return files_full(field, "disk")
    text = os.strerror(number).lower()
    return ToolError("TOOL_FAILED", f"{path}: {text}.", field=field, path=path)
