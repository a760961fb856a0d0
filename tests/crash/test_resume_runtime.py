"""The runtime is killed under scripts that write; resumed, each write is there once (T1).

Each round starts three runs, kills the runtime at a random moment, resumes what was interrupted
(and kills it under some of these too), and looks at items, counters, events, artifacts and
sessions. What was resumed is made again at the end, and must come out the same.
"""

import re

import pytest

from tests.crash import scale
from tests.crash.conftest import seed_of
from tests.crash.resumed_runs import AT_ONCE, FLAWS, PATCH, Rounds
from tests.integration.deployment import deployed

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]
SEEN = {
    "no_request_ids": "twice|another version|RUN_DIVERGED|not the|is failed|is unknown",
    "reads_not_kept": "RUN_DIVERGED|not the one it made|REUSED|twice|is failed|is unknown",
}


def test_every_write_is_made_once(tmp_path, reached):
    """Whatever the moment: a run is unknown and has written nothing, or ends with all, once."""
    seed, times = seed_of("LLMSPELL_KILL_SEED"), scale.count(2, 50)
    with deployed(tmp_path) as up:
        rounds = Rounds(up, "crash", seed)
        try:
            rounds.run(times)
        except BaseException as error:
            error.add_note(f"LLMSPELL_KILL_SEED={seed} repeats this, in round {rounds.number}")
            raise
    reached(
        "T1",
        f"runtime: {times} kills -9 under {AT_ONCE} runs, resumed",
        "every write once",
        f"{rounds.resumed} resumed, {rounds.ended} ended with {rounds.writes} writes, "
        f"{rounds.untouched} had written nothing",
        "writes without request ids; reads not on disk",
    )
    assert rounds.ended + rounds.untouched == times * AT_ONCE


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_build_that_writes_twice_is_seen(tmp_path, reached, flaw):
    """Writes without request ids, and reads that were not kept before a write: within 50 kills."""
    folder, up_folder = tmp_path / "patch", tmp_path / "up"
    folder.mkdir()
    up_folder.mkdir()
    (folder / "sitecustomize.py").write_text(PATCH.format(flaw=FLAWS[flaw]), "utf-8")
    with deployed(up_folder, variables={"PYTHONPATH": str(folder)}) as up:
        rounds = Rounds(up, "crash", 11)
        with pytest.raises(Exception, match=r".") as seen:
            rounds.run(50)
    assert re.search(SEEN[flaw], str(seen.value)), seen.value
    reached("T1", f"runtime: {flaw}", "seen in 50 kills", f"seen after {rounds.number}", flaw)
