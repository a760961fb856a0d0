"""Builds what a disk may hold after the power went, and has each image opened and checked.

A disk keeps what was flushed. Of what was written since then, any part may have arrived, in any
order, and of any write any sectors of 512 bytes.

As a program (`python -m tests.crash.images LOG IMAGES SEED CHECKER`) it checks each image in a
forked child, since a bad file may kill whoever maps it, and prints a JSON object with the count of
images, of acknowledgements, and what was wrong with each bad one. CHECKER is `module:function`; the
function takes all lines that were ever acknowledged, before any fork, and returns what checks one
image: a function of the folder and of the lines acknowledged before the power went.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.recorder import Record, read

NAMES = ("data.mdb", "LOCK")
SECTOR_BYTES = 512
DROP_ALL = 0.25
DROP = 0.5
TORN = 0.5
CHECK_SECONDS = 30

Checker = Callable[[Path, Sequence[str]], None]


@dataclass
class Disk:
    """One file, as far as it is flushed, and what was written to it since."""

    content: bytearray = field(default_factory=bytearray)
    pending: list[Record] = field(default_factory=list)

    def apply(self, record: Record) -> None:
        """Take the next thing that happened."""
        if record.kind == "S":
            for write in self.pending:
                _write(self.content, write.offset, write.data)
            self.pending.clear()
        elif record.kind == "D":
            _write(self.content, record.offset, record.data)
        elif record.kind == "T":
            del self.content[record.offset :]
        else:
            self.pending.append(record)

    def after_power_cut(self, rng: random.Random) -> bytes:
        """What may be read after the power went now."""
        content = bytearray(self.content)
        writes = [] if rng.random() < DROP_ALL else rng.sample(self.pending, len(self.pending))
        for write in writes:
            if rng.random() < DROP:
                continue
            if rng.random() < TORN:
                _write_torn(content, write, rng)
            else:
                _write(content, write.offset, write.data)
        return bytes(content)


@dataclass(frozen=True, slots=True)
class Image:
    """The files after a power cut, and what had been acknowledged by then."""

    number: int
    files: dict[str, bytes]
    acknowledged: list[str]

    def put(self, folder: Path) -> None:
        """Write the files into an empty folder."""
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def images(records: Sequence[Record], count: int, seed: int) -> Iterator[Image]:
    """Images of power cuts at random moments, between any two things that reached the disk."""
    rng = random.Random(seed)
    moments = [place for place, record in enumerate(records) if record.kind != "A"]
    cuts = sorted(rng.choices(moments, k=count))
    disks = [Disk() for _ in NAMES]
    acknowledged = b""
    number = 0
    for place, record in enumerate(records):
        while number < count and cuts[number] == place:
            files = {
                name: disk.after_power_cut(rng) for name, disk in zip(NAMES, disks, strict=True)
            }
            yield Image(number, files, acknowledged.decode().splitlines())
            number += 1
        if record.kind == "A":
            acknowledged += record.data
        else:
            disks[record.file].apply(record)


def check_all(records: Sequence[Record], count: int, seed: int, checker: Checker) -> list[str]:
    """What was wrong with each bad image."""
    bad = []
    for image in images(records, count, seed):
        folder = Path(tempfile.mkdtemp(prefix="llmspell-image-", dir=_memory_disk()))
        try:
            image.put(folder)
            trouble = check_in_child(folder, image.acknowledged, checker)
        finally:
            shutil.rmtree(folder)
        if trouble:
            bad.append(f"image {image.number}: {trouble}")
    return bad


def check_in_child(folder: Path, acknowledged: Sequence[str], checker: Checker) -> str:
    """Why an image is bad; empty where it is good."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(writing, 2)
        _check_and_exit(folder, acknowledged, checker)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        words = pipe.read().decode(errors="replace").strip()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return ""
    return words[-600:] or (
        f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
    )


def _check_and_exit(folder: Path, acknowledged: Sequence[str], checker: Checker) -> None:
    signal.alarm(CHECK_SECONDS)
    try:
        checker(folder, acknowledged)
    except BaseException as error:  # noqa: BLE001  (whatever it is, it is told, and the child ends)
        where = traceback.extract_tb(error.__traceback__)[-1]
        words = "".join(traceback.format_exception_only(error)).strip()
        os.write(2, f"{words} ({where.name}: {where.line})".encode())
        os._exit(1)
    os._exit(0)


def _write(content: bytearray, offset: int, data: bytes) -> None:
    end = offset + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[offset:end] = data


def _write_torn(content: bytearray, write: Record, rng: random.Random) -> None:
    for start in range(0, len(write.data), SECTOR_BYTES):
        if rng.random() < DROP:
            _write(content, write.offset + start, write.data[start : start + SECTOR_BYTES])


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main(log: str, count: str, seed: str, checker: str) -> None:
    """Check and print; see the module."""
    records = list(read(Path(log)))
    printed = b"".join(record.data for record in records if record.kind == "A")
    lines = printed.decode().splitlines()
    module, _, function = checker.partition(":")
    prepared = getattr(importlib.import_module(module), function)(lines)
    bad = check_all(records, int(count), int(seed), prepared)
    report = {"acknowledged": len(lines), "images": int(count), "bad": bad}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
