"""Memory that is nobody's any more, and mapped pages that nobody looks at, back to the kernel."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

OWN_GROWTH_BYTES = 1024**2
"""What memory may grow before it is seen to what of it is free: a millisecond or two."""
MAPPED_BYTES_MAX = 512 * 1024
"""Of a store's file that stay mapped; more is unmapped, and read again from the kernel's cache."""
TRIM_EVERY_S = 0.9
GIVE_EVERY_S = 5.0
"""What became free without any growth goes back so often: a millisecond."""

_MADV_DONTNEED = 4
_M_ARENA_MAX = -8


def share_heap() -> None:
    """Have all threads take memory from one heap, where the C library knows how.

    Only of the first heap is the free end given back, and after an import each thread's own keeps
    some. To be called before there are threads.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Have the C library return free memory, where it knows how."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def mapped_bytes() -> int:
    """Bytes of files that are mapped and in memory, all together."""
    return _resident()[1]


def own_bytes() -> int:
    """Bytes of memory that are no file's."""
    whole, mapped = _resident()
    return whole - mapped


def _resident() -> tuple[int, int]:
    """All, and the files' part of it (proc_pid_statm)."""
    told = Path("/proc/self/statm").read_text("ascii").split()
    return int(told[1]) * mmap.PAGESIZE, int(told[2]) * mmap.PAGESIZE


class Footprint:
    """Keeps a process small; one for all stores below a folder, as memory is the process's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        unmap(folder)  # what opening looked at
        self._mapped_at_start = mapped_bytes()
        self._own_bytes = own_bytes()
        self._trimmed_at = self._given_at = -GIVE_EVERY_S

    def trim(self, beside: int) -> None:
        """Keep little of the stores' files mapped: whoever reads them reads here and there.

        Takes a millisecond or two, and so does no more than once a second.

        Args:
            beside: Bytes of other files that are meant to stay.
        """
        now = time.monotonic()
        if now < self._trimmed_at + TRIM_EVERY_S:
            return
        self._trimmed_at = now
        if mapped_bytes() - self._mapped_at_start > beside + MAPPED_BYTES_MAX:
            unmap(self._folder)
        grown = own_bytes() > self._own_bytes + OWN_GROWTH_BYTES
        if grown or now > self._given_at + GIVE_EVERY_S:
            give_back()
            self._given_at = now
            self._own_bytes = own_bytes()
        self._own_bytes = min(own_bytes(), self._own_bytes)


def unmap(folder: Path) -> None:
    """Drop the mapped pages of the stores below a folder: they are shared, so nothing is lost."""
    for start, end, path in _mappings():
        if path.startswith(os.fspath(folder)) and path.endswith((".mdb", ".mdb (deleted)")):
            _drop(start, end)


def unmap_array(array: NDArray[Any]) -> None:
    """The same for an array that is a view of a mapped file."""
    start = int(array.__array_interface__["data"][0])
    whole = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (start + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > whole:
        _drop(whole, end)


def _drop(start: int, end: int) -> None:
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


def _mappings() -> list[tuple[int, int, str]]:
    found = []
    for line in Path("/proc/self/maps").read_text("utf-8", "replace").splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) > 5 and parts[1].startswith("r--s"):  # noqa: PLR2004  (the path is sixth)
            start, _, end = parts[0].partition("-")
            found.append((int(start, 16), int(end, 16), parts[5]))
    return found
