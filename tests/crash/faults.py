"""Lets one call on the disk fail in each run of a story, for n = 1, 2, 3, … until none is left.

A story is a module with two coroutines. `tell(folder, ledger)` works with a real engine in a
folder, asks for each change by `ledger.ask`, and looks after each whether answers are what they
should be. `check(folder, lines)` opens the folder afterwards, on a disk that is sound again, and
raises unless it holds what the lines say.

As a program under the library made of faults.c (`python -m tests.crash.faults STORY FIRST STEP
ERROR [broken]`) it runs the story with every STEP-th call failing, the FIRST first, each time in a
forked child and an empty folder, and prints a JSON object: see `Outcome`.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import json
import mmap
import os
import shutil
import signal
import struct
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb

from services.common.errors import Reason, ServiceError, reason_name
from services.common.store import Store
from tests.crash.images import check_in_child

KINDS = ("write", "flush", "rename", "map", "fork")
EXIT_FLUSH_FAILED = 74
EXIT_CANNOT_START = 78
ENDS = {0, EXIT_FLUSH_FAILED, EXIT_CANNOT_START}
"""How a process may end: at the end of its story, or as the services do."""
IN_WORDS = {
    Reason.STORAGE_FULL,
    Reason.STORE_NOT_WRITABLE,
    Reason.COLLECTION_NOT_FOUND,
    Reason.SNAPSHOT_NOT_FOUND,
}
"""What a caller may be told: what happened, or that something is not there since it did."""
KILLS = {"KILL": -1, "TORN": -2}
"""The call ends the process, before it or, where it writes, in the middle of it."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FAULT = struct.Struct("=10q")


class Switch:
    """Which call is to fail, shared with the processes that the library is loaded in."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FAULT.size)

    def arm(self, at: int, error: int, kinds: Sequence[str]) -> None:
        """Let the `at`-th call of these kinds fail, counted from now."""
        self.arm_mask(at, error, sum(1 << KINDS.index(kind) for kind in kinds))

    def armed(self) -> tuple[int, int, int]:
        """What it was armed with: the call, the error, and the kinds as a mask."""
        at, error, mask, *_ = _FAULT.unpack(self._map)
        return at, error, mask

    def arm_mask(self, at: int, error: int, mask: int) -> None:
        """Arm it again with that."""
        self._map[:] = _FAULT.pack(at, error, mask, *(0 for _ in range(7)))

    def disarm(self) -> None:
        """Let nothing fail; what was seen stays."""
        self._map[:8] = bytes(8)

    @property
    def seen(self) -> int:
        """How many calls of these kinds there were."""
        return int(_FAULT.unpack(self._map)[3])

    @property
    def failed(self) -> str:
        """The kind of the call that failed; empty where none has."""
        kind = _FAULT.unpack(self._map)[4]
        return KINDS[kind - 1] if kind else ""


class Ledger:
    """What was asked for and answered, told on descriptor 1 so that it outlives the process."""

    async def ask(self, number: int, work: Awaitable[Any]) -> bool:
        """Ask for a change; whether it was answered.

        Raises:
            AssertionError: it was refused in words that a caller can do nothing with.
        """
        _tell(f"asked {number}")
        try:
            await work
        except ServiceError as refusal:
            if not _in_words(refusal):
                raise AssertionError(repr(refusal)) from refusal
            _tell(f"refused {number} {reason_name(refusal.reason)}")
            return False
        except (OSError, lmdb.Error) as failure:
            # The door makes INTERNAL of it, with an id; a full disk has a name of its own.
            if _says_full(failure):
                raise AssertionError(repr(failure)) from failure
            _tell(f"refused {number} INTERNAL")
            return False
        _tell(f"answered {number}")
        return True


def _in_words(refusal: ServiceError) -> bool:
    """Whether it is of use to a caller; a copy's file that cannot be read now is no damage yet."""
    return refusal.reason in IN_WORDS or "it cannot be read" in refusal.message


def _says_full(failure: Exception) -> bool:
    return isinstance(failure, lmdb.DiskError) or getattr(failure, "errno", None) in FULL


def _tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def told(lines: Sequence[str]) -> tuple[list[int], int | None]:
    """Numbers of what was answered; the one that was asked for last and never answered, if any."""
    words = [line.split() for line in lines]
    answered = [int(number) for what, number, *_ in words if what == "answered"]
    last = words[-1] if words else [""]
    return answered, int(last[1]) if last[0] == "asked" else None


@dataclass
class Outcome:
    """What the runs told."""

    points: int = 0
    """Runs in which a call failed."""
    asked: int = 0
    """Changes asked for in the run in which none did."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Which calls failed."""
    exits: Counter[str] = field(default_factory=Counter)
    """How the processes ended."""
    refusals: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def add(self, point: int, kind: str, code: int, lines: Sequence[str], trouble: str) -> None:
        """Count a run."""
        self.points += bool(kind)
        self.kinds[kind or "none"] += 1
        self.exits[str(code)] += 1
        self.refusals.update(line.split()[2] for line in lines if line.startswith("refused"))
        if not kind:
            self.asked = sum(line.startswith("asked") for line in lines)
        if trouble:
            self.bad.append(f"call {point} ({kind or 'no fault'}, exit {code}): {trouble}")


def walk(
    story: Any, switch: Switch, folders: Path, *, first: int, step: int, error: int
) -> Outcome:
    """Run a story with one call after the other failing."""
    outcome, point = Outcome(), first
    while True:
        folder = Path(tempfile.mkdtemp(dir=folders))
        code, lines, words = _tell_in_child(story, folder, switch, point, error)
        switch.disarm()
        trouble = words
        if code in ENDS or (code == -signal.SIGKILL and error < 0):
            trouble = check_in_child(folder, lines, lambda f, ls: asyncio.run(story.check(f, ls)))
        shutil.rmtree(folder)
        outcome.add(point, switch.failed, code, lines, trouble)
        if not switch.failed:
            return outcome
        point += step


def _tell_in_child(
    story: Any, folder: Path, switch: Switch, point: int, error: int
) -> tuple[int, list[str], str]:
    """The exit code of a process that tells a story, its ledger, and what it said beside."""
    with tempfile.TemporaryFile() as ledger, tempfile.TemporaryFile() as words:
        child = os.fork()
        if child == 0:
            os.dup2(ledger.fileno(), 1)
            os.dup2(words.fileno(), 2)
            switch.arm(point, error, ("write",) if error in FULL else KINDS)
            _tell_and_exit(story, folder)
        _, status = os.waitpid(child, 0)
        ledger.seek(0)
        words.seek(0)
        lines = ledger.read().decode().splitlines()
        return os.waitstatus_to_exitcode(status), lines, words.read().decode()[-800:]


def _tell_and_exit(story: Any, folder: Path) -> None:
    code = 0
    try:
        asyncio.run(asyncio.wait_for(story.tell(folder, Ledger()), 60))
    except BaseException as error:  # noqa: BLE001  (whatever it is, it is told, and the child ends)
        code = EXIT_CANNOT_START if _cannot_start(error) else 1
        os.write(2, f"\n{_where(error)} {error!r}".encode())
    os._exit(code)


def _cannot_start(error: BaseException) -> bool:
    """An engine that did not open said so in words; `services.common.server` ends so too."""
    return isinstance(error, ServiceError) and error.reason in IN_WORDS


def _where(error: BaseException) -> list[str]:
    return [f"{one.name}:{one.lineno}" for one in traceback.extract_tb(error.__traceback__)[-5:]]


def main(name: str, first: str, step: str, error: str, *flaw: str) -> None:
    """Run and print; see the module."""
    story: Any = importlib.import_module(name)
    if flaw:
        break_store()
    outcome = walk(
        story,
        Switch(Path(os.environ["FAULT_SWITCH"])),
        Path(os.environ["FAULT_FOLDER"]),
        first=int(first),
        step=int(step),
        error=KILLS.get(error) or getattr(errno, error),
    )
    sys.stdout.write(json.dumps(vars(outcome)) + "\n")


def break_store() -> None:
    """Let the store go on after a failed commit, and answer, as LMDB would: this must be seen."""
    Store._fail = lambda self, group, error: None


if __name__ == "__main__":
    main(*sys.argv[1:])
