"""The vector engine is killed while it imports, deletes, expires, seals and merges (T1, T7, T9)."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from services.common.clock import FakeClock
from tests.crash import scale, vector_history
from tests.crash.vector_history import checker, engine, place_of

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]

ACKNOWLEDGED_MIN = 40
"""A round in which less was written before the kill says nothing, and is done again."""


def killed(folder, seed, wait_s):
    """Write until the kill; the lines that were acknowledged."""
    command = [sys.executable, "-m", "tests.crash.vector_history", str(folder), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    lines = (first + rest).splitlines()
    return lines if rest.endswith("\n") or not rest else lines[:-1]


async def healed(folder):
    """Graphs are made again from the truth, and then find each record by its own vector."""
    storage = engine(folder, FakeClock())
    for writer in range(vector_history.WRITERS):
        records = await vector_history._records(storage, writer)
        if records:
            await storage.checkpoint(*place_of(writer))
            await vector_history._check_search(storage, writer, records)
    await storage.close()


def test_no_acknowledged_record_is_lost_by_a_kill(tmp_path):
    """Each round holds what was acknowledged, nothing by halves; graphs heal to the truth."""
    seed = int(os.environ.get("LLMSPELL_KILL_SEED", random.randrange(10**6)))
    rng, done = random.Random(seed), 0
    rounds = scale.count(4, 200)
    while done < rounds:
        folder = tmp_path / f"{done}-{rng.random()}"
        lines = killed(folder, rng.randrange(10**6), rng.uniform(0.1, 1.0))
        if len(lines) < ACKNOWLEDGED_MIN:
            continue
        try:
            checker(lines)(folder, lines)
            asyncio.run(healed(folder))
        except BaseException as error:
            error.add_note(f"LLMSPELL_KILL_SEED={seed} repeats this")
            raise
        done += 1
