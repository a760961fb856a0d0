"""A disk of eight mebibytes: a tmpfs of its own, where whoever runs the tests may mount one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DISK_BYTES = 8 * 1024**2


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Mount one there; skips the test where that is not allowed."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount(8) here")
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def room_of(disk: Path) -> int:
    """Bytes that are free."""
    told = os.statvfs(disk)
    return told.f_bavail * told.f_frsize


def fill(file: Path) -> None:
    """Let a file take all the room that is left, to the last byte."""
    with file.open("ab", buffering=0) as filler:
        try:
            while filler.write(bytes(65536)) == 65536:
                pass
        except OSError:
            return
