"""A short soak: clients of all kinds and two tenants, faults, and all that must hold meanwhile.

`make soak` is the long one, with its figures. Here a machine may be slow: bounds of time are wide.
"""

from __future__ import annotations

import asyncio
from itertools import islice

import grpc
import pytest

from tests.crash.conftest import seed_of
from tests.crash.soak.limits import check_vitals
from tests.crash.soak.plan import SPARING, faults
from tests.crash.soak.storm import Soak
from tests.crash.soak.vitals import Sample, slope
from tests.integration.apart import apart

SECONDS, PATIENCE = 10.0, 6.0


def soaked(folder, *, seconds=SECONDS, modules=None):
    """A soak that is over."""
    seed = seed_of("LLMSPELL_SOAK_SEED")
    with apart(folder / "up", modules=modules) as up:
        soak = Soak(up, seed=seed, seconds=seconds, patience=PATIENCE)
        try:
            asyncio.run(soak.run())
            check_vitals(soak)
        except BaseException as error:
            error.add_note(f"LLMSPELL_SOAK_SEED={seed} repeats it")
            raise
    return soak


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_short_soak_holds(tmp_path):
    """Nothing is lost, halved, done twice or shown to others while processes and ways fail."""
    soak = soaked(tmp_path)
    assert soak.weather.counts["kill"]
    assert soak.musters
    assert all(runner.ledger.answers for runner in soak.runners)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_build_that_loses_writes_is_caught(tmp_path):
    """Teeth: a state process that answers batches and does them in part is noticed by a client."""
    flawed = {"state": ("tests.crash.broken", "cut_batches=0.2")}
    with pytest.raises(ExceptionGroup) as caught:
        soaked(tmp_path, modules=flawed)
    assert caught.group_contains((AssertionError, grpc.aio.AioRpcError))


def test_a_seed_tells_all_faults():
    """The same seed means the same faults, places and times; another one others."""
    for kills in (True, False):
        first, again, other = (list(islice(faults(n, kills=kills), 40)) for n in (7, 7, 8))
        assert first == again != other
        assert {fault.kind for fault in first} - {"kill"} == set(SPARING)
        assert any(fault.kind == "kill" for fault in first) == kills


def test_the_slope_is_that_of_least_squares():
    """Two MiB a minute are twenty in ten, whatever lies around the line evenly."""
    samples = [
        Sample(at=60.0 * minute, resident_mib=0.0, own_mib=50 + 2 * minute + sway, descriptors=1)
        for minute in range(10)
        for sway in (-1, 1)
    ]
    assert slope(samples, "own_mib") == pytest.approx(20.0)
