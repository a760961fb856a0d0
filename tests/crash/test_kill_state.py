"""The state process is killed under eight clients: each answer stands, nothing is halved (T1, T7).

Each round kills the process at a random moment, 50 to 300 ms after clients have begun and not
before a hundred calls were answered, starts it again, and compares what is there with the ledgers:
items, sessions and checkpoints, artifacts, events, journals, and what a watcher and a subscriber of
each tenant have seen. Beside the clients a migration runs in one round, backups in the next.
"""

import re
import statistics
import traceback

import pytest

from tests.crash import scale
from tests.crash.conftest import seed_of
from tests.crash.kill_rounds import CLIENTS, Rounds

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

RESTART_S_MAX = 2.0
"""A quarter of the rounds at least, and each within five times that, in `make test-crash`."""


def test_no_answer_is_lost_by_a_kill(tmp_path, reached):
    """All acknowledged is there, unknowns are whole or absent, ends hold, restarts are quick."""
    seed, times = seed_of("LLMSPELL_KILL_SEED"), scale.count(6, 200)
    rounds = Rounds(tmp_path / "data", seed)
    try:
        rounds.run(times)
    except BaseException as error:
        error.add_note(f"LLMSPELL_KILL_SEED={seed} repeats this")
        raise
    quarter, median, _ = statistics.quantiles(rounds.restarts, n=4)
    worst = max(rounds.restarts)
    reached(
        "T1",
        f"state: {times} kills -9 under {CLIENTS} clients",
        "0 lost, 0 halves, restart < 2 s",
        f"0 of {rounds.acknowledged} lost, {rounds.blobs} blobs verified; "
        f"restart {median:.2f} s, worst {worst:.2f} s",
        "answers before the commit; batches in parts",
    )
    assert scale.SCALE is None or quarter < RESTART_S_MAX
    assert scale.SCALE is None or worst < 5 * RESTART_S_MAX


FLAWS = {
    "answers_early": "after .* answers, |ended early|not told of|lost|FAILED|another version",
    "half_batches": "after .* answers, (items|sessions)|not told of",
    "sweep_in_two": "ends that no item has",
    "record_before_blob": "blobs are missing|they are missing",
    "kept_references": "references that nobody has",
    "events_answered_early": "after .* answers, events",
    "half_publications": "after .* answers, events",
    "half_checkpoints": "half a checkpoint|sessions",
    "stale_session_index": "due for no session",
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_build_that_loses_or_halves_is_seen(tmp_path, reached, flaw):
    """Answers before the commit, halves, bytes after their record: within a hundred kills."""
    rounds = Rounds(tmp_path / "data", 7, flaw)
    rounds.looks_every = 1
    for client in rounds.clients:
        client.reads = False
    with pytest.raises(Exception, match=r".") as seen:
        rounds.run(100)
    words = "".join(traceback.format_exception(seen.value))
    assert re.search(FLAWS[flaw], words), words
    reached("T1", f"state: {flaw}", "seen in 100 kills", f"seen after {rounds.number}", flaw)
