"""The folders of tenants: where their tools' files are, and how much there is in each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from services.common.context import is_tenant_id
from services.common.limits import MIB, TENANT_FILES_BYTES, TENANT_FILES_COUNT
from services.runtime.toolbox.erasing import ERASED, erase
from services.runtime.toolbox.folder import WORK
from services.runtime.worker.sandbox import NOBODY

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH_MAX = 40
"""Levels of folders that are looked at; honest tools make 32."""
_WORK_SECONDS_MAX = 900.0
"""What is older than this in `WORK` belongs to a process that was ended."""
_SLACK_BYTES = 16 * MIB
"""What two executions at once may write beyond the limit, for each counts what it found."""
_REST_FACTOR = 20
_QUICK_SECONDS = 0.05
"""Where measuring takes longer, it rests for `_REST_FACTOR` times that."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Of one tenant's folder."""

    bytes_max: int = TENANT_FILES_BYTES
    files_max: int = TENANT_FILES_COUNT


@dataclass(frozen=True, slots=True)
class Usage:
    """What is in a tenant's folder."""

    bytes_used: int
    files_used: int


@dataclass(slots=True)
class _Measured:
    usage: Usage
    fresh_until_s: float


@dataclass(frozen=True, slots=True)
class Opened:
    """A tenant's folder for one execution."""

    path: str
    """Empty: this deployment keeps no files."""
    room: tuple[int, int] = (0, 0)
    """Bytes and files that may be added."""
    is_overfull: Callable[[], Awaitable[bool]] | None = None
    """Whether there is far more in it than may be: some process writes and does not count."""


NO_FOLDER = Opened("")


class Folders:
    """One folder a tenant, beneath one of the deployment's.

    A tenant's folder has a name that nobody can guess, within one that has the tenant's name:
    what the kernel lets a process do with a path that it knows, such as to ask whether it is there,
    it can do with its own tenant's only.
    """

    def __init__(self, root: Path | None, limits: FileLimits | None = None) -> None:
        """`root`: None where this deployment keeps no files."""
        self._root = root
        self.limits = limits or FileLimits()
        self._known: dict[str, Path] = {}
        self._measured: dict[str, _Measured] = {}
        self._measuring: dict[str, asyncio.Lock] = {}

    def path(self, tenant: str) -> str:
        """A tenant's folder, made where it is not there; empty where there are no files."""
        if self._root is None:
            return ""
        path = self._known.get(tenant)
        if path is None or not path.is_dir():
            path = self._known[tenant] = self._make(tenant)
        return str(path)

    def _make(self, tenant: str) -> Path:
        outer = self._outer(tenant)
        outer.mkdir(mode=0o700, parents=True, exist_ok=True)
        inner = min((entry for entry in outer.iterdir() if entry.is_dir()), default=None)
        if inner is None:
            inner = outer / secrets.token_hex(16)
            inner.mkdir(mode=0o700)
        if os.geteuid() == 0:  # the tools' processes are this user then
            os.chown(inner, NOBODY, NOBODY)
            for above in (outer, outer.parent):
                above.chmod(0o711)
        return inner

    async def open(self, tenant: str) -> Opened:
        """A tenant's folder and what room there is in it."""
        path = self.path(tenant)
        if not path:
            return NO_FOLDER
        usage = await self.usage(tenant)
        most = self.limits

        async def is_overfull() -> bool:
            now = await self.usage(tenant)
            return now.bytes_used > most.bytes_max + _SLACK_BYTES or now.files_used > most.files_max

        room = max(most.bytes_max - usage.bytes_used, 0), max(most.files_max - usage.files_used, 0)
        return Opened(path, room, is_overfull)

    def erase(self, tenant: str) -> int:
        """Remove a tenant's folder and all in it; tells how many files and folders went.

        Raises:
            OSError: where something cannot be removed.
        """
        self._known.pop(tenant, None)
        self._measured.pop(tenant, None)
        if self._root is None or not self._outer(tenant).is_dir():
            return 0
        root = os.open(self._root, _FOLDER)
        try:
            gone = f"{ERASED}{secrets.token_hex(16)}"
            # Out of reach at once; a deletion that was interrupted here is ended by the next one.
            os.rename(tenant, gone, src_dir_fd=root, dst_dir_fd=root)
            removed = sum(erase(root, name) for name in _erased(root))
        finally:
            os.close(root)
        return max(removed - 2, 0)

    def left(self, tenant: str) -> int:
        """Files and folders beneath a tenant's name, and what is still being erased."""
        if self._root is None or not self._root.is_dir():
            return 0
        mine = self._outer(tenant)
        inside = sum(1 for _ in mine.rglob("*")) + 1 if mine.is_dir() else 0
        return inside + sum(1 for _ in self._root.glob(f"{ERASED}*"))

    async def usage(self, tenant: str, *, fresh: bool = False) -> Usage:
        """What a folder holds; a moment old where measuring takes long, but for `fresh`."""
        path = self.path(tenant)
        if not path:
            return Usage(0, 0)
        async with self._measuring.setdefault(tenant, asyncio.Lock()):
            last = self._measured.get(tenant)
            now = time.monotonic()
            if last and not fresh and now < last.fresh_until_s:
                return last.usage
            last = await asyncio.to_thread(_measured, path, self.limits)
            self._measured[tenant] = last
            return last.usage

    def _outer(self, tenant: str) -> Path:
        assert self._root is not None
        assert is_tenant_id(tenant)
        return self._root / tenant


def _measured(path: str, limits: FileLimits) -> _Measured:
    begin = time.monotonic()
    usage = measure(path, limits)
    end = time.monotonic()
    took = end - begin
    return _Measured(usage, end + _REST_FACTOR * took if took > _QUICK_SECONDS else end)


def measure(path: str, limits: FileLimits) -> Usage:
    """Count a folder's bytes and files, and remove what ended processes left in `WORK`.

    It ends early where there is more than the limits anyway.
    """
    count = _Count(limits)
    with contextlib.suppress(FileNotFoundError):
        root = os.open(path, _FOLDER)
        try:
            _clear_work(root)
            count.add(root, 1)
        finally:
            os.close(root)
    return Usage(count.size, count.files)


class _Count:
    def __init__(self, limits: FileLimits) -> None:
        self._limits = limits
        self.size = 0
        self.files = 0

    def add(self, folder: int, depth: int) -> None:
        """Count what a folder holds; what is too deep counts as too many files."""
        if depth > _DEPTH_MAX:
            self.files += self._limits.files_max + 1
        with os.scandir(folder) as entries:
            for entry in entries:
                if self.files > self._limits.files_max:
                    return
                with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                    self._add_one(folder, entry, depth)

    def _add_one(self, folder: int, entry: os.DirEntry[str], depth: int) -> None:
        known = entry.stat(follow_symlinks=False)
        self.files += not (depth == 1 and entry.name == WORK)
        if not stat.S_ISDIR(known.st_mode):
            self.size += known.st_size
            return
        inner = os.open(entry.name, _FOLDER, dir_fd=folder)
        try:
            self.add(inner, depth + 1)
        finally:
            os.close(inner)


def _clear_work(root: int) -> None:
    try:
        work = os.open(WORK, _FOLDER, dir_fd=root)
    except OSError:  # nothing was ever written here
        return
    try:
        # By the file system's own clock: the folder's time is that of the newest draft.
        oldest = os.fstat(work).st_mtime - _WORK_SECONDS_MAX
        for name in os.listdir(work):  # noqa: PTH208 - beneath a descriptor
            with contextlib.suppress(OSError):
                known = os.stat(name, dir_fd=work, follow_symlinks=False)
                if known.st_mtime >= oldest:
                    continue
                if stat.S_ISDIR(known.st_mode):
                    erase(work, name)
                else:
                    os.unlink(name, dir_fd=work)
    finally:
        os.close(work)


def _erased(root: int) -> list[str]:
    """What deletions have begun to remove."""
    return [name for name in os.listdir(root) if name.startswith(ERASED)]
