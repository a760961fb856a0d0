"""The runtime is killed under workflows; they go on by themselves, and do each step once (T1)."""

import pytest

from tests.crash import scale
from tests.crash.conftest import seed_of
from tests.crash.killed_workflows import AT_ONCE, FLAWS, PATCH, SEEN_AT_ONCE, Rounds, Site
from tests.integration.deployment import deployed
from tests.integration.workflow_door import doors

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1500)]


def allowing(site):
    """Settings of a deployment whose tools may reach a site."""
    return {"LLMSPELL__RUNTIME__ALLOWED_HOSTS": f"127.0.0.1:{site.port}"}


def test_every_step_is_done_once(tmp_path, reached):
    """Whatever the moment: each goes on to its end, and no call and no tool is done twice."""
    seed, times = seed_of("LLMSPELL_KILL_SEED"), scale.count(2, 50)
    with (
        Site() as site,
        deployed(tmp_path, variables=allowing(site)) as up,
        doors(up, up.tenant("crash")) as (door,),
    ):
        rounds = Rounds(up, door, seed, site)
        try:
            rounds.run(times)
        except BaseException as error:
            error.add_note(f"LLMSPELL_KILL_SEED={seed} repeats this, in round {rounds.number}")
            raise
    reached(
        "T1",
        f"runtime: {times} rounds of kills -9 under {AT_ONCE} workflows, which go on",
        "every effect once, every workflow completed",
        f"{rounds.completed} completed, {rounds.resumed} resumed, {rounds.untouched} had not begun",
        "request ids by chance; begins not kept",
    )
    assert rounds.completed == times * AT_ONCE


@pytest.mark.parametrize("flaw", FLAWS if scale.SCALE is not None else SEEN_AT_ONCE)
def test_a_build_that_does_steps_twice_is_seen(tmp_path, reached, flaw):
    """Other request ids each time; begins, receipts and memos that nobody keeps or reads."""
    folder, up_folder = tmp_path / "patch", tmp_path / "up"
    folder.mkdir()
    up_folder.mkdir()
    (folder / "sitecustomize.py").write_text(PATCH.format(flaw=FLAWS[flaw]), "utf-8")
    with (
        Site() as site,
        deployed(up_folder, variables=allowing(site) | {"PYTHONPATH": str(folder)}) as up,
        doors(up, up.tenant("crash")) as (door,),
    ):
        rounds = Rounds(up, door, 11, site)
        with pytest.raises(AssertionError, match="twice"):
            rounds.run(50)
    reached(
        "T1", f"runtime: workflows, {flaw}", "seen in 50 rounds", f"after {rounds.number}", flaw
    )
