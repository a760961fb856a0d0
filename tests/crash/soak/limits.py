"""What memory and descriptors may do over the last part of a soak, when no process is killed."""

from __future__ import annotations

import time

from services.common.limits import REQUEST_REMEMBERED_SECONDS
from tests.crash.soak.storm import WARM_SHARE, Soak
from tests.crash.soak.vitals import slope, zombies
from tests.integration.apart import NAMES

SLOPE_MIB_MAX = 1.0
"""Per ten minutes, of its own memory, once as many requests are forgotten as come."""
FILLING_MIB_MAX = 16.0
"""Likewise before that: a request is remembered for ten minutes, with what it was answered."""
SAMPLES_MIN = 120
"""Below, a slope says nothing."""
DESCRIPTORS_MAX = 8
"""More at the end than at the beginning: connections of faults that have just ended."""
ENDED_S = 10.0
"""Until a process that has ended was asked what became of it."""


def check_vitals(soak: Soak) -> None:
    """Descriptors do not grow; memory does not either, where it was looked at for long enough.

    To be called while the processes live.
    """
    end = time.monotonic() + ENDED_S
    while left := zombies(soak.up):
        assert time.monotonic() < end, f"processes that have ended are left: {left}"
        time.sleep(0.1)
    for name in NAMES:
        samples = soak.vitals.since(name, soak.quiet_from)
        part = len(samples) // 4
        if part:
            before, after = (
                min(each.descriptors for each in some) for some in (samples[:part], samples[-part:])
            )
            assert after - before <= DESCRIPTORS_MAX, f"{name}: {before} descriptors, then {after}"
        if len(samples) >= SAMPLES_MIN:
            grown = slope(samples, "own_mib")
            is_full = WARM_SHARE * soak.seconds >= REQUEST_REMEMBERED_SECONDS
            most = SLOPE_MIB_MAX if is_full else FILLING_MIB_MAX
            assert grown < most * soak.patience, f"{name} grows by {grown:.1f} MiB"
