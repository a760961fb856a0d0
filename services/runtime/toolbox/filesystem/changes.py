"""Changes in folders, as the kernel tells them: inotify(7), on folders that are open already.

A library would watch absolute paths, on which the tools' user may not walk.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Self

from services.runtime.toolbox.folder import Folder
from services.runtime.toolbox.model import ToolError, failed, limit_exceeded

FOLDERS_MAX = 2000
KINDS = ("created", "modified", "deleted")

_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _IS_FOLDER = 0x4000, 0x8000, 0x40000000
_ONLY_FOLDERS = 0x01000000
_MASK = _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLY_FOLDERS
_EVENT = struct.Struct("iIII")
_READ_BYTES = 64 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


class Changes:
    """Watches folders of a tenant's."""

    def __init__(self, folder: Folder, *, recursive: bool) -> None:
        """`recursive`: whether folders within are watched too."""
        self._folder = folder
        self._recursive = recursive
        self._descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise failed("This machine watches no more folders now; try again later.")
        self._folders: dict[int, str] = {}
        self._only: dict[str, set[str]] = {}
        self._known: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def watch(self, path: str) -> None:
        """Watch a file, or a folder and what it holds.

        Raises:
            ToolError: LIMIT_EXCEEDED where there are too many folders; TOOL_FAILED.
        """
        known = self._folder.stat(path, field="input")
        if known is not None and stat.S_ISDIR(known.st_mode):
            self._add_all(path)
            return
        plain = PurePosixPath(path)
        above = str(plain.parent)
        self._only.setdefault(above, set()).add(plain.name)
        self._add(above)
        self._known.add(path)

    def _add_all(self, path: str) -> list[str]:
        """Watch a folder; tells what it and its folders hold now."""
        self._only.pop(path, None)
        self._add(path)
        held = []
        deep = 32 if self._recursive else 1
        for found in self._folder.walk(path, field="input", depth_max=deep):
            held.append(found.path)
            if found.kind == "directory" and self._recursive:
                self._add(found.path)
        self._known.update(held)
        return held

    def _add(self, path: str) -> None:
        if len(self._folders) >= FOLDERS_MAX:
            raise limit_exceeded("input (folders)", len(self._folders) + 1, FOLDERS_MAX)
        descriptor = self._folder.open(path, os.O_RDONLY | os.O_DIRECTORY, field="input")
        try:
            os.fchdir(descriptor)
            watch: int = _libc.inotify_add_watch(self._descriptor, b".", _MASK)
        finally:
            os.close(descriptor)
        if watch < 0:
            number = ctypes.get_errno()
            text = "watches no more folders" if number == errno.ENOSPC else os.strerror(number)
            raise failed(f"{path} cannot be watched: this machine {text}.", path=path)
        self._folders[watch] = path

    def wait(self, timeout_s: float) -> Iterator[tuple[str, str]]:
        """The next changes, each a path and one of `KINDS`; none where the time is over."""
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return
        data = os.read(self._descriptor, _READ_BYTES)
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
            at += length
            if mask & _OVERFLOW:
                yield ".", "modified"
            elif not mask & _IGNORED and watch in self._folders:
                yield from self._told(self._folders[watch], name, mask)

    def _told(self, above: str, name: str, mask: int) -> Iterator[tuple[str, str]]:
        only = self._only.get(above)
        if only is not None and name not in only:
            return
        path = name if above == "." else f"{above}/{name}"
        if mask & (_DELETE | _MOVED_FROM):
            self._known.discard(path)
            yield path, "deleted"
            return
        kind = "modified" if path in self._known else "created"
        self._known.add(path)
        yield path, kind
        if mask & _IS_FOLDER and mask & (_CREATE | _MOVED_TO) and self._recursive:
            yield from self._entered(path)

    def _entered(self, path: str) -> Iterator[tuple[str, str]]:
        """What a new folder holds already."""
        try:
            yield from [(held, "created") for held in self._add_all(path)]
        except ToolError as error:
            if error.reason not in ("FILE_NOT_FOUND", "PATH_REFUSED"):
                raise
