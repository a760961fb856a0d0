"""The wall clock of a real process, in the hands of a test (clock.c)."""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

_MOVED = struct.Struct("=2q")


class Clock:
    """By how much the clock is wrong; processes in its environment see it at once."""

    def __init__(self, library: Path, file: Path) -> None:
        file.write_bytes(bytes(_MOVED.size))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), _MOVED.size)
        self._by_ns = 0
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_FILE": str(file)}

    def move(self, by_s: float) -> None:
        """Go, with this difference from the right time."""
        self._by_ns = int(by_s * 1e9)
        self._map[:] = _MOVED.pack(self._by_ns, 0)

    def stop(self) -> None:
        """Stand still from here on."""
        self._map[:] = _MOVED.pack(self._by_ns, time.time_ns() + self._by_ns)
