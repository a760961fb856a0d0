"""Sixteen clients, twenty items, kills and pauses: does one order explain it all (T12)?"""

import asyncio
from collections import Counter

import pytest

from tests.crash import scale
from tests.crash.conftest import seed_of
from tests.crash.linearizability.checker import Verdict, check
from tests.crash.linearizability.clients import CLIENTS, KEYS, Run
from tests.crash.linearizability.item import step

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

OPERATIONS = scale.count(2_000, 20_000)
FAULTS = max(3, OPERATIONS // 2_000)
STALE_SHARE = 0.02 if scale.SCALE is None else 0.002
"""Of a hundred thousand reads two hundred are stale, of a thousand too few to be sure of one."""


def verdicts(history):
    """How many keys' histories fit, are violated, or are undecided."""
    return Counter(check(calls, None, step) for calls in history.calls.values())


def test_one_order_explains_every_answer(tmp_path, reached):
    """No violation and nothing undecided, over all kills and pauses."""
    seed = seed_of("LLMSPELL_CRASH_SEED")
    history = asyncio.run(Run(tmp_path / "data", seed, OPERATIONS, FAULTS).go())
    found = verdicts(history)
    reached(
        "T12",
        f"state: {CLIENTS} clients, {KEYS} items, {FAULTS} kills, {FAULTS} pauses",
        f"{OPERATIONS} operations, 0 violated, 0 undecided",
        f"{history.count} operations ({history.unknown} of unknown outcome), "
        f"{found[Verdict.VIOLATED]} violated, {found[Verdict.UNDECIDED]} undecided",
        f"{STALE_SHARE:.1%} of reads stale; answers before the commit",
    )
    assert history.count >= OPERATIONS
    assert history.unknown < 0.1 * OPERATIONS, "too little was answered for a verdict"
    assert set(found) == {Verdict.FITS}, f"LLMSPELL_CRASH_SEED={seed} repeats the calls: {found}"


@pytest.mark.parametrize("flaw", [f"stale_reads={STALE_SHARE}", "answers_early"])
def test_a_build_that_lies_now_and_then_is_seen(tmp_path, flaw):
    """Two stale reads in a thousand are enough, and so are answers before the commit.

    A kill must fall between an answer and its commit: where none did, it is tried again.
    """
    assert any(_is_seen(tmp_path / str(seed), seed, flaw) for seed in (7, 8, 9))


def _is_seen(folder, seed, flaw):
    history = asyncio.run(Run(folder, seed, OPERATIONS, FAULTS, flaw).go())
    return any(
        check(calls, None, step, steps_max=100_000) is Verdict.VIOLATED
        for calls in history.calls.values()
    )
