"""The tenant's own folder, as tools see it: paths are relative to it and cannot leave it.

Every path is opened by the kernel beneath the folder's descriptor, without following a symbolic
link (openat2, https://man7.org/linux/man-pages/man2/openat2.2.html), so there is no moment between
a check and its use. Landlock holds where this module would fail.

What is written appears whole or not at all: it is made in a place of the tools' own, `WORK`, and
renamed from there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from services.runtime.toolbox.erasing import erase
from services.runtime.toolbox.model import MIB, ToolError, field_invalid, limit_exceeded
from services.runtime.toolbox.paths import (
    DEPTH_MAX,
    WORK,
    Found,
    Room,
    check_kind,
    checked_path,
    exists,
    full_or,
    not_found,
    refusal,
    refused,
    refusing_fullness,
)

__all__ = ["WORK", "Folder", "Found", "Room", "checked_path", "refused"]

READ_BYTES_MAX = 64 * MIB
ENTRIES_MAX = 100_000
"""Most entries of one folder that are looked at."""

_OPENAT2, _RENAMEAT2, _NOREPLACE = 437, 316, 1
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 1, 2, 4, 8
_RESOLVE = _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_CHUNK_BYTES = MIB
_libc = ctypes.CDLL(None, use_errno=True)


class Folder:
    """Files beneath one descriptor."""

    def __init__(self, descriptor: int, room: Room | None = None, work: int = -1) -> None:
        """Make it.

        Args:
            descriptor: Of the folder, opened with O_PATH or O_RDONLY.
            room: What may be written; None: whatever fits.
            work: Descriptor of the folder for what is not finished; -1: `WORK`, made when needed.
        """
        self.descriptor = descriptor
        self.room = room
        self._work = work
        self._is_whole = work < 0

    def open(self, path: str, flags: int, mode: int = 0o600, *, field: str = "path") -> int:
        """A descriptor of a plain file with one name, or of a folder.

        Raises:
            ToolError: PATH_REFUSED where it leads outside or to what is neither; FILE_NOT_FOUND;
                FILE_EXISTS with O_EXCL; TOOL_FAILED for what the kernel says otherwise.
        """
        inner = self._inner(path, field)
        flags |= os.O_CLOEXEC
        if not flags & os.O_PATH:
            flags |= os.O_NOCTTY | os.O_NONBLOCK
        how = struct.pack("<QQQ", flags, mode if flags & os.O_CREAT else 0, _RESOLVE)
        descriptor: int = _libc.syscall(
            _OPENAT2, self.descriptor, os.fsencode(inner), how, len(how)
        )
        if descriptor < 0:
            raise refusal(ctypes.get_errno(), path, field)
        try:
            check_kind(descriptor, field)
        except ToolError:
            os.close(descriptor)
            raise
        return descriptor

    def file(self, path: str, *, field: str = "path") -> BinaryIO:
        """A file, to read.

        Raises:
            ToolError: as `open`; PATH_REFUSED for a folder.
        """
        descriptor = self.open(path, os.O_RDONLY, field=field)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise refused(field, "must be a file, not a folder")
        return os.fdopen(descriptor, "rb")

    def read(self, path: str, *, field: str = "path", limit: int = READ_BYTES_MAX) -> bytes:
        """A file's bytes.

        Raises:
            ToolError: as `file`; LIMIT_EXCEEDED where there are more than `limit` bytes.
        """
        with self.file(path, field=field) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise limit_exceeded(field, size, limit, "bytes")
            return file.read(limit)

    def write(self, path: str, data: bytes, *, field: str = "path", append: bool = False) -> None:
        """Make or replace a file, or add to its end; all of it or nothing.

        Raises:
            ToolError: as `replacing`.
        """
        if append and self.stat(path, field=field) is not None:
            self._append(path, data, field)
            return
        try:
            with self.replacing(path, field=field, overwrite=not append) as file:
                file.write(data)
        except ToolError as error:
            if not append or error.reason != "FILE_EXISTS":
                raise
            self._append(path, data, field)  # someone made it meanwhile

    def _append(self, path: str, data: bytes, field: str) -> None:
        with contextlib.ExitStack() as stack:
            descriptor = self.open(path, os.O_WRONLY | os.O_APPEND, field=field)
            file = stack.enter_context(os.fdopen(descriptor, "ab", buffering=0))
            if self.room:
                self.room.take(len(data), 0, field)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # nobody else's bytes are cut off below
            size = os.fstat(descriptor).st_size
            view = memoryview(data)
            try:
                while view:
                    view = view[file.write(view) :]
                os.fsync(descriptor)
            except OSError as error:
                os.ftruncate(descriptor, size)
                raise full_or(error, field, self.room) from None

    @contextlib.contextmanager
    def replacing(
        self, path: str, *, field: str = "path", overwrite: bool = True
    ) -> Iterator[BinaryIO]:
        """A new file, to write and to read, that becomes `path` where the block ends well.

        Raises:
            ToolError: as `open`; FILE_EXISTS where it is there and `overwrite` is false;
                FILES_FULL where the tenant's limits or the disk leave no room.
        """
        parent, name = self.parent(path, field=field)
        work, draft = self._work_folder(), f"draft-{secrets.token_hex(8)}"
        try:
            self._check_target(path, field, overwrite=overwrite)
            with refusing_fullness(field, self.room):
                how = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                made = os.open(draft, how, 0o600, dir_fd=work)
                with os.fdopen(made, "w+b") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                    size = os.fstat(file.fileno()).st_size
                if self.room:
                    self.room.take(size, 1, field)
                _rename(work, draft, parent, name, overwrite=overwrite, field=field)
                os.fsync(parent)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=work)
            os.close(parent)

    @contextlib.contextmanager
    def drafting(self) -> Iterator[tuple[Folder, str]]:
        """A folder of its own, and the name by which `publish` puts it in its place.

        What was not published is gone when the block ends.
        """
        work, name = self._work_folder(), f"draft-{secrets.token_hex(8)}"
        os.mkdir(name, 0o700, dir_fd=work)
        descriptor = os.open(name, _FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work)
        try:
            yield Folder(descriptor, self.room, work), name
        finally:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                erase(work, name)

    def publish(
        self, name: str, path: str, *, inner: str = "", field: str = "path", overwrite: bool = False
    ) -> None:
        """Put a drafted folder, or the entry `inner` of it, where `path` is and nothing else.

        With `overwrite` a file may be there.

        Raises:
            ToolError: as `open`; FILE_EXISTS.
        """
        parent, last = self.parent(path, field=field)
        source = f"{name}/{inner}" if inner else name
        try:
            self._check_target(path, field, overwrite=overwrite)
            _rename(self._work_folder(), source, parent, last, overwrite=overwrite, field=field)
            os.fsync(parent)
        finally:
            os.close(parent)

    def stat(self, path: str, *, field: str = "path") -> os.stat_result | None:
        """What is known of a plain file or a folder; None where there is none.

        Raises:
            ToolError: as `open`.
        """
        try:
            descriptor = self.open(path, os.O_PATH, field=field)
        except ToolError as error:
            if error.reason == "FILE_NOT_FOUND":
                return None
            raise
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def make_folder(self, path: str, *, parents: bool, field: str = "path") -> int:
        """Make a folder where there is none; tells how many were made.

        Raises:
            ToolError: as `open`; FILE_EXISTS where a file is there.
        """
        parts = PurePosixPath(self._inner(path, field)).parts
        made = 0
        for count in range(1, len(parts) + 1):
            step = "/".join(parts[:count])
            found = self.stat(step, field=field)
            if found is not None:
                if not stat.S_ISDIR(found.st_mode):
                    raise exists(step, field)
                continue
            if count < len(parts) and not parents:
                raise not_found(step, field)
            made += self._make_one(step, field)
        return made

    def _make_one(self, path: str, field: str) -> int:
        if self.room:
            self.room.take(0, 1, field)
        parent, name = self.parent(path, field=field)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            os.fsync(parent)
        except FileExistsError:  # someone else made it
            return 0
        except OSError as error:
            raise full_or(error, field, self.room) from None
        finally:
            os.close(parent)
        return 1

    def remove(self, path: str, *, recursive: bool, field: str = "path") -> int:
        """Remove a file or a folder; tells how many entries went.

        Raises:
            ToolError: as `open`; FIELD_INVALID for a folder that is not empty, not `recursive`.
        """
        found = self.stat(path, field=field)
        if found is None:
            raise not_found(path, field)
        parent, name = self.parent(path, field=field)
        try:
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(name, dir_fd=parent)
                return 1
            if recursive:
                return self._remove_tree(parent, name)
            os.rmdir(name, dir_fd=parent)
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:
                rule = "is a folder that is not empty; recursive removes it and all in it"
                raise field_invalid(field, rule) from None
            raise refusal(error.errno or 0, path, field) from None
        else:
            return 1
        finally:
            os.close(parent)

    def _remove_tree(self, parent: int, name: str) -> int:
        """It is out of sight at once, and goes then."""
        work, gone = self._work_folder(), f"erased-{secrets.token_hex(8)}"
        os.rename(name, gone, src_dir_fd=parent, dst_dir_fd=work)
        return erase(work, gone)

    def move(self, source: str, target: str, *, overwrite: bool = True) -> None:
        """Give a file or a folder another name.

        Raises:
            ToolError: as `open`; FILE_EXISTS where the target is a folder, or a file and
                `overwrite` is false.
        """
        found = self.stat(source, field="source_path")
        if found is None:
            raise not_found(source, "source_path")
        self._check_depth(source, target, found)
        self._check_target(target, "target_path", overwrite=overwrite)
        old, old_name = self.parent(source, field="source_path")
        try:
            new, new_name = self.parent(target, field="target_path")
            try:
                _rename(old, old_name, new, new_name, overwrite=overwrite, field="target_path")
                os.fsync(new)
            finally:
                os.close(new)
        finally:
            os.close(old)

    def _check_depth(self, source: str, target: str, found: os.stat_result) -> None:
        if not stat.S_ISDIR(found.st_mode):
            return
        above = len(PurePosixPath(self._inner(target, "target_path")).parts)
        own = len(PurePosixPath(source).parts)
        for entry in self.walk(source, field="source_path"):
            depth = above + entry.path.count("/") + 1 - own
            if depth > DEPTH_MAX:
                raise limit_exceeded("target_path", depth, DEPTH_MAX, "folders deep")

    def copy(self, source: str, target: str, *, overwrite: bool = True) -> int:
        """Copy a file, or a folder and all in it; tells how many bytes.

        Raises:
            ToolError: as `replacing`; FILE_EXISTS where a folder's target is there.
        """
        found = self.stat(source, field="source_path")
        if found is None:
            raise not_found(source, "source_path")
        if not stat.S_ISDIR(found.st_mode):
            return self._copy_file(source, self, target, "target_path", overwrite=overwrite)
        self._check_depth(source, target, found)
        if self.stat(target, field="target_path") is not None:
            raise exists(target, "target_path")
        total = 0
        with self.drafting() as (draft, name):
            begin = len(str(PurePosixPath(source))) + 1
            for entry in self.walk(source, field="source_path"):
                inner = entry.path[begin:]
                if entry.kind == "directory":
                    draft.make_folder(inner, parents=False)
                elif entry.kind == "file":
                    total += self._copy_file(entry.path, draft, inner, "path")
            self.publish(name, target, field="target_path")
        return total

    def _copy_file(
        self, source: str, into: Folder, target: str, field: str, *, overwrite: bool = True
    ) -> int:
        total = 0
        with (
            self.file(source, field="source_path") as read,
            into.replacing(target, field=field, overwrite=overwrite) as written,
        ):
            while chunk := read.read(_CHUNK_BYTES):
                total += written.write(chunk)
        return total

    def parent(self, path: str, *, field: str = "path") -> tuple[int, str]:
        """A descriptor of the folder that holds `path`, and the name in it; for renames.

        Raises:
            ToolError: as `open`; PATH_REFUSED for the folder itself.
        """
        inner = PurePosixPath(self._inner(path, field))
        if not inner.name:
            raise refused(field, "must not be the folder itself")
        return self.open(str(inner.parent), _FOLDER, field=field), inner.name

    def names(self, path: str, *, field: str = "path") -> Iterator[os.DirEntry[str]]:
        """What a folder holds, in order of name.

        Raises:
            ToolError: as `open`; LIMIT_EXCEEDED where there are more than `ENTRIES_MAX`.
        """
        descriptor = self.open(path, _FOLDER, field=field)
        hidden = WORK if self._is_whole and str(PurePosixPath(path)) == "." else None
        try:
            found: list[os.DirEntry[str]] = []
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if len(found) >= ENTRIES_MAX:
                        raise limit_exceeded(f"{field} (entries)", len(found) + 1, ENTRIES_MAX)
                    if entry.name != hidden:
                        found.append(entry)
            yield from sorted(found, key=lambda entry: entry.name)
        finally:
            os.close(descriptor)

    def entries(self, path: str, *, field: str = "path") -> Iterator[Found]:
        """What a folder holds, in order of name, described.

        Raises:
            ToolError: as `names`.
        """
        begin = "" if str(PurePosixPath(path)) == "." else f"{PurePosixPath(path)}/"
        for entry in self.names(path, field=field):
            with contextlib.suppress(FileNotFoundError):
                yield Found.of(begin + entry.name, entry.stat(follow_symlinks=False))

    def walk(
        self,
        path: str = ".",
        *,
        field: str = "path",
        depth_max: int = DEPTH_MAX,
        enter: Callable[[Found], bool] = lambda _: True,
    ) -> Iterator[Found]:
        """All that a folder and its folders hold, each folder before what it holds.

        A folder that is deeper than `depth_max` below `path`, or than any path may be, or that
        `enter` says no to, is told of and not entered.

        Raises:
            ToolError: as `names`, for `path` itself.
        """
        begin = 0 if str(PurePosixPath(path)) == "." else len(PurePosixPath(path).parts)
        stack = [self.entries(path, field=field)]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                continue
            yield found
            depth = found.path.count("/") + 1
            deeper = depth - begin < depth_max and depth < DEPTH_MAX
            if found.kind == "directory" and deeper and enter(found):
                stack.append(self._entries_unless_gone(found.path))

    def _entries_unless_gone(self, path: str) -> Iterator[Found]:
        try:
            yield from self.entries(path)
        except ToolError as error:
            if error.reason not in ("FILE_NOT_FOUND", "PATH_REFUSED"):
                raise

    def _inner(self, path: str, field: str) -> str:
        inner = checked_path(path, field)
        if self._is_whole and inner.split("/", 1)[0] == WORK:
            raise refused(field, f"must not lead into {WORK}, which is the tools' own")
        return inner

    def _work_folder(self) -> int:
        if self._work < 0:
            with contextlib.suppress(FileExistsError):
                os.mkdir(WORK, 0o700, dir_fd=self.descriptor)
            how = _FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                self._work = os.open(WORK, how, dir_fd=self.descriptor)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                # A program of the tenant's made a file of that name.
                os.unlink(WORK, dir_fd=self.descriptor)
                return self._work_folder()
        return self._work

    def _check_target(self, path: str, field: str, *, overwrite: bool) -> None:
        found = self.stat(path, field=field)
        if found is None:
            return
        if stat.S_ISDIR(found.st_mode) or not overwrite:
            raise exists(path, field)


def _rename(
    old: int, old_name: str, new: int, new_name: str, *, overwrite: bool, field: str
) -> None:
    flags = 0 if overwrite else _NOREPLACE
    code = _libc.syscall(_RENAMEAT2, old, os.fsencode(old_name), new, os.fsencode(new_name), flags)
    if not code:
        return
    number = ctypes.get_errno()
    if number == errno.EINVAL:
        raise field_invalid(field, "must not lie within the folder that is moved")
    if number in (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY):
        raise exists(new_name, field)
    raise refusal(number, new_name, field)
