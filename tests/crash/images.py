"""Builds what a disk may hold after the power went, and has each image opened and checked.

As a program (`python -m tests.crash.images LOG IMAGES SEED CHECKER [NAME …]`) it checks each image
in a forked child, since a bad file may kill whoever maps it, and prints a JSON object with the
count of images, of acknowledgements, and what was wrong with each bad one. CHECKER is
`module:function`; the function takes all lines that were ever acknowledged, before any fork, and
returns what checks one image: a function of the folder and of the lines acknowledged before the
power went. With names an image has those files only.
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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash.disk import Disk
from tests.crash.recorder import Record, read

CHECK_SECONDS = 30

Checker = Callable[[Path, Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class Image:
    """The files after a power cut, and what had been acknowledged by then."""

    number: int
    files: dict[str, bytes | None]
    acknowledged: list[str]

    def put(self, folder: Path) -> None:
        """Write the files into an empty folder."""
        for name, content in self.files.items():
            if content is None:
                (folder / name).mkdir()
            else:
                (folder / name).write_bytes(content)


def images(
    records: Sequence[Record], count: int, seed: int, names: Sequence[str] = ()
) -> Iterator[Image]:
    """Images of power cuts between any two things that reached the disk.

    Half of them are at any moment, the others just after something was acknowledged.
    """
    rng = random.Random(seed)
    moments = [place for place, record in enumerate(records) if record.kind != "A"]
    told = [place for place in moments if place and records[place - 1].kind == "A"]
    cuts = sorted(rng.choices(moments, k=count // 2) + rng.choices(told, k=count - count // 2))
    disk, acknowledged, number = Disk(), b"", 0
    for place, record in enumerate(records):
        while number < count and cuts[number] == place:
            files = disk.after_power_cut(rng)
            if names:
                files = {name: files[name] for name in names if name in files}
            yield Image(number, files, acknowledged.decode().splitlines())
            number += 1
        if record.kind == "A":
            acknowledged += record.data
        else:
            disk.apply(record)


def check_all(
    records: Sequence[Record], count: int, seed: int, checker: Checker, names: Sequence[str]
) -> list[str]:
    """What was wrong with each bad image; one is checked on each processor."""
    bad: list[str] = []
    running: deque[Running] = deque()
    for image in images(records, count, seed, names):
        folder = Path(tempfile.mkdtemp(prefix="llmspell-image-", dir=_memory_disk()))
        image.put(folder)
        running.append(Running(image.number, folder, image.acknowledged, checker))
        while len(running) > (os.cpu_count() or 1):
            bad += running.popleft().end()
    while running:
        bad += running.popleft().end()
    return bad


class Running:
    """An image that a child is looking at; its folder goes with it."""

    def __init__(
        self, number: int, folder: Path, acknowledged: Sequence[str], checker: Checker
    ) -> None:
        self._number, self._folder = number, folder
        self._child, self._pipe = _begin(folder, acknowledged, checker)

    def end(self) -> list[str]:
        """Wait; what is wrong with it, if anything."""
        try:
            trouble = _end(self._child, self._pipe)
        finally:
            shutil.rmtree(self._folder)
        return [f"image {self._number}: {trouble}"] if trouble else []


def check_in_child(folder: Path, acknowledged: Sequence[str], checker: Checker) -> str:
    """Why an image is bad; empty where it is good."""
    return _end(*_begin(folder, acknowledged, checker))


def _begin(folder: Path, acknowledged: Sequence[str], checker: Checker) -> tuple[int, int]:
    """A child that looks, and where it says what is wrong."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(writing, 2)
        _check_and_exit(folder, acknowledged, checker)
    os.close(writing)
    return child, reading


def _end(child: int, reading: int) -> str:
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


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main(log: str, count: str, seed: str, checker: str, *names: str) -> None:
    """Check and print; see the module."""
    records = list(read(Path(log)))
    printed = b"".join(record.data for record in records if record.kind == "A")
    lines = printed.decode().splitlines()
    module, _, function = checker.partition(":")
    prepared = getattr(importlib.import_module(module), function)(lines)
    bad = check_all(records, int(count), int(seed), prepared, names)
    report = {"acknowledged": len(lines), "images": int(count), "bad": bad}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
