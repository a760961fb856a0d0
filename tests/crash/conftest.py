"""The power cut: `power_cut(writer, checker)` records a program and checks images of its disk.

With `names` an image has those files of the folder only.

Another engine's test needs two things. A writer: a module that runs the real storage code in a
folder given as its first argument, with the seed as its second, and prints a line for each
acknowledgement with one `os.write(1, …)`. And a checker, named `module:function`: it takes all the
lines that were acknowledged, once, and returns a function that takes a folder and the lines
acknowledged before the power went, opens the folder with the real engine, and raises where anything
is wrong.
`tests/crash/state_history.py` has both.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import astuple, dataclass
from pathlib import Path

import pytest

from tests.crash import recorder, scale
from tests.crash.figures import Figure, table

_FIGURES = pytest.StashKey[list[Figure]]()


def pytest_terminal_summary(terminalreporter, config):
    """The table: what was asked of each test, what it reached, which broken build it catches."""
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("durability")
        terminalreporter.write_line(table(figures))
    collected = os.environ.get("LLMSPELL_CRASH_FIGURES")
    if collected:
        with Path(collected).open("a", encoding="utf-8") as file:  # for tests.crash.together
            file.writelines(json.dumps(astuple(figure)) + "\n" for figure in figures)


@pytest.fixture
def reached(request):
    """A function that adds a line to the table at the end; see `Figure`."""
    figures = request.config.stash.setdefault(_FIGURES, [])
    return lambda *cells: figures.append(Figure(*cells))


def seed_of(variable):
    """What the variable says, so that a failure can be repeated; else one by the run's own seed."""
    return int(os.environ.get(variable, random.getrandbits(32)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the images told."""

    seed: int
    images: int
    acknowledged: int
    bad: list[str]

    def __str__(self) -> str:
        first = "\n".join(self.bad[:3])
        return (
            f"{len(self.bad)} of {self.images} images are bad, after {self.acknowledged} "
            f"acknowledgements; LLMSPELL_CRASH_SEED={self.seed} repeats it\n{first}"
        )


def _library(folders, name):
    if recorder.compiler() is None:
        pytest.skip(f"a C compiler (gcc or cc) is needed to build {name}.c")
    return recorder.build(folders.mktemp(name), name)


@pytest.fixture(scope="session")
def recorder_library(tmp_path_factory):
    return _library(tmp_path_factory, "recorder")


@pytest.fixture(scope="session")
def faults_library(tmp_path_factory):
    """What lets calls on the disk fail."""
    return _library(tmp_path_factory, "faults")


@pytest.fixture
def image_count():
    """How many images to check."""
    return scale.count(200, 2000)


@pytest.fixture
def power_cut(recorder_library, tmp_path):
    """A function that records a writer and has images of its disk checked."""

    def run(writer, checker, *arguments, images, names=()):
        seed = seed_of("LLMSPELL_CRASH_SEED")
        log = tmp_path / "log"
        folder = tmp_path / "disk"
        recorder.record(recorder_library, writer, [str(folder), str(seed), *arguments], log)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.crash.images",
                log,
                str(images),
                str(seed),
                checker,
                *names,
            ],
            cwd=recorder.ROOT,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, f"seed {seed}: {done.stderr.decode()}"
        return Outcome(seed=seed, **json.loads(done.stdout))

    return run
