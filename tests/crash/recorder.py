"""Runs a program and keeps, in one order, what it wrote, flushed and acknowledged (recorder.c)."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SWITCH_BYTES = 80
"""Size of what faults.c shares with the test."""
_HEADER = struct.Struct("<c7xQqq")


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened."""

    kind: str
    """See recorder.c; A: acknowledged."""
    file: int
    """Its inode."""
    offset: int
    data: bytes


def compiler() -> str | None:
    """A C compiler, where there is one."""
    return shutil.which("gcc") or shutil.which("cc")


def build(folder: Path, name: str = "recorder") -> Path:
    """Compile the recorder, or another source beside it, into a folder; its path."""
    library = folder / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    command = [compiler(), "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def record(library: Path, module: str, arguments: list[str], log: Path) -> None:
    """Run a Python module to its end under the recorder.

    Args:
        library: What `build` made.
        module: A module whose `__main__` writes, and prints a line for each acknowledgement with
            one `os.write` to descriptor 1.
        arguments: Its arguments; the first one is the folder in which it writes.
        log: The file to record into.
    """
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    environment |= {"REC_LOG": str(log), "REC_FOLDER": arguments[0]}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def faulty(library: Path, switch: Path, folder: Path) -> dict[str, str]:
    """The environment of a process in which a call under a folder may fail (faults.c)."""
    switch.write_bytes(bytes(SWITCH_BYTES))
    names = {"LD_PRELOAD": library, "FAULT_SWITCH": switch, "FAULT_FOLDER": folder}
    return {**os.environ, **{name: str(path) for name, path in names.items()}}


def read(log: Path) -> Iterator[Record]:
    """The records of a log."""
    content = log.read_bytes()
    place = 0
    while place < len(content):
        kind, file, offset, length = _HEADER.unpack_from(content, place)
        place += _HEADER.size
        yield Record(kind.decode(), file, offset, content[place : place + length])
        place += length
