"""Runs the tests of a folder as many at a time as there are processors: `make test-crash`.

`python -m tests.crash.together SECONDS [WORDS]` gives each file of tests/crash a pytest of its own,
the longest first, those that measure a time alone at the end, and prints what failed and one table
of all figures. It fails where a test does, or where all together take longer than SECONDS. WORDS
are pytest's `-k`; where none are given, what has a target of its own (vector, runtime) is left out.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash.figures import Figure, table
from tests.crash.recorder import ROOT

LONGEST = (
    "test_kill_state.py",
    "test_stepwise_faults.py",
    "test_power_cut_state.py",
    "test_linearizability.py",
    "test_backup_prefix.py",
    "test_damaged_beside_state.py",
    "test_damaged_process_state.py",
    "test_kill_points_state.py",
    "test_migration_calls_state.py",
    "test_backup_crash.py",
)
ALONE = ("test_backup_under_load.py", "test_restart_state.py")
"""Their figures are times."""
NOTHING_RUN = 5
"""What pytest ends with where the words leave no test."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One file's tests."""

    file: Path
    code: int
    took_s: float
    words: str

    @property
    def is_good(self) -> bool:
        """Whether none failed."""
        return self.code in {0, NOTHING_RUN}


def files() -> tuple[list[Path], list[Path]]:
    """Files with tests, the longest first; and those that run alone."""
    found = sorted(Path(ROOT, "tests/crash").rglob("test_*.py"))
    order = {name: place for place, name in enumerate(LONGEST)}
    together = [file for file in found if file.name not in ALONE]
    together.sort(key=lambda file: order.get(file.name, len(order)))
    return together, [file for file in found if file.name in ALONE]


async def run(file: Path, words: str, figures: Path) -> Ran:
    """The tests of one file."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("-k", words, str(file)),
        cwd=ROOT,
        env=os.environ | {"LLMSPELL_CRASH_FIGURES": str(figures)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        raise
    code = process.returncode or 0
    ran = Ran(file, code, time.monotonic() - began, output.decode(errors="replace"))
    if code != NOTHING_RUN:
        good = "passed" if ran.is_good else "FAILED"
        sys.stdout.write(f"{good} in {ran.took_s:6.1f} s  {file.relative_to(ROOT)}\n")
        sys.stdout.write("" if ran.is_good else f"\n{ran.words}\n")
        sys.stdout.flush()
    return ran


async def run_all(words: str, figures: Path) -> list[Ran]:
    """All of them, as many at a time as there are processors."""
    together, alone = files()
    free = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(file: Path) -> Ran:
        async with free:
            return await run(file, words, figures)

    async with asyncio.TaskGroup() as tasks:
        begun = [tasks.create_task(one(file)) for file in together]
    return [task.result() for task in begun] + [await run(file, words, figures) for file in alone]


def told(figures: Path) -> list[Figure]:
    """What the tests have written down."""
    lines = figures.read_text("utf-8").splitlines() if figures.exists() else []
    return [Figure(*json.loads(line)) for line in lines]


def main(arguments: Sequence[str]) -> int:
    """Run and print; see the module."""
    limit_s = float(arguments[0])
    words = arguments[1] if len(arguments) > 1 else "not vector and not runtime"
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder, "figures")
        try:
            ran = asyncio.run(asyncio.wait_for(run_all(words, figures), limit_s))
        except TimeoutError:
            ran = []
        sys.stdout.write(f"\n{table(told(figures))}\n")
    failed = [each for each in ran if not each.is_good]
    took = time.monotonic() - began
    sys.stdout.write(f"\n{len(ran)} files in {took:.0f} s of {limit_s:.0f}, {len(failed)} failed\n")
    return 0 if ran and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
