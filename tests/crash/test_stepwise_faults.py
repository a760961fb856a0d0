"""Every call on the disk fails once: a clean refusal or a clean end, and nothing is lost (T3)."""

import json
import random
import subprocess
import sys
from collections import Counter

import pytest

from tests.crash import recorder, scale

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]

STATE, VECTOR = "tests.crash.state_story", "tests.crash.vector_story"
ERRORS = {"EIO": ("write", "flush", "rename", "map", "fork"), "ENOSPC": ("write",)}
"""What fails, and with which word; a mapping and a fork say what fits them."""
STATE_STEP = 40
STEP = scale.count(96, 1)
"""The longer story fails at every so many-th call in `make test`, at each by the full figures."""


@pytest.fixture
def walk(faults_library, tmp_path):
    """A function that tells a story with one call after the other failing; what came of it."""

    def begin(place, *arguments):
        switch, folder = tmp_path / f"switch{place}", tmp_path / f"disk{place}"
        folder.mkdir()
        return subprocess.Popen(
            [sys.executable, "-m", "tests.crash.faults", *map(str, arguments)],
            cwd=recorder.ROOT,
            env=recorder.faulty(faults_library, switch, folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(story, first, step, *rest):
        """Two processes, each with every other of the calls that are to fail."""
        firsts = (first, first + step)
        begun = [begin(each, story, each, 2 * step, *rest) for each in firsts]
        outcome = added(*(ended(process) for process in begun))
        told = {what: count for what, count in outcome.items() if what != "bad"}
        sys.stdout.write(f"{story, first, step, *rest}: {told}\n")
        return outcome

    return run


def ended(process):
    words, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(words)


def added(one, other):
    """What two walks saw."""
    both = {what: one[what] + other[what] for what in ("points", "bad")}
    for what in ("kinds", "exits", "refusals"):
        both[what] = Counter(one[what]) + Counter(other[what])
    return both | {"asked": one["asked"]}


@pytest.mark.parametrize("error", ERRORS)
def test_state_loses_nothing_at_any_call(walk, reached, error):
    """Each write, flush, rename and mapping fails once; the process answers, or ends with words."""
    step = scale.count(STATE_STEP, 1)
    outcome = walk(STATE, random.randint(1, step), step, error)
    reached(
        "T3",
        f"state: {error} at each of {outcome['points']} calls",
        "clean error or exit 74, 0 lost",
        f"{len(outcome['bad'])} bad; ended by rule {outcome['exits'].get('74', 0)} times",
        "goes on after a failed commit",
    )
    assert outcome["points"] >= 400 // step, outcome
    assert step > 1 or set(outcome["kinds"]) == {"none", *ERRORS[error]} - {"fork"}
    assert outcome["exits"]["74"] >= 10 // step, "where a commit is in doubt the process ends"
    assert not outcome["bad"], "\n".join(outcome["bad"][:3])


@pytest.mark.parametrize("error", ERRORS)
def test_vector_loses_nothing_at_any_call(walk, error):
    """Nor in segments, copies and their builder: what fails there, the truth answers for."""
    outcome = walk(VECTOR, random.randint(1, STEP), STEP, error)
    assert outcome["points"] >= 200 // STEP, outcome
    assert STEP > 1 or set(outcome["kinds"]) == {"none", *ERRORS[error]}
    assert not outcome["bad"], "\n".join(outcome["bad"][:3])


@pytest.mark.parametrize(("story", "step"), [(STATE, 24), (VECTOR, 64)])
def test_a_store_that_goes_on_is_seen(walk, story, step):
    """Where a commit that failed is answered nonetheless, the stories say so."""
    assert walk(story, 8, step, "EIO", "broken")["bad"]
