"""The power goes while the state engine writes: is what was answered still there (T2)?"""

import pytest

from tests.crash import scale

WRITER = "tests.crash.state_history"
CHECKER = "tests.crash.state_history:checker"
ACKNOWLEDGED_MIN = 400
BROKEN_IMAGES = scale.count(20, 300)
pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]


def test_nothing_acknowledged_is_lost(power_cut, image_count, reached):
    """Every image opens, has all that was acknowledged, and nothing by halves."""
    outcome = power_cut(WRITER, CHECKER, images=image_count)
    reached(
        "T2",
        f"state: {image_count} power cuts",
        f"{image_count} images sound",
        f"{image_count - len(outcome.bad)} sound",
    )
    assert outcome.acknowledged >= ACKNOWLEDGED_MIN, "too little was written for a verdict"
    assert not outcome.bad, str(outcome)


FLAWS = {"nosync": 0.9, "nometasync": 0.3, "noblobsync": 0.5, "nonamesync": 0.5}
"""What is not flushed (of the database all, or its header; of artifacts the bytes, or the name) and
the share of images that must be bad. Seen are 98, 55, 92 and 94 of a hundred."""


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_store_that_does_not_flush_is_seen(power_cut, reached, flaw):
    """Without flushes of all, of the header, of an artifact's bytes or of their name, it shows."""
    outcome = power_cut(WRITER, CHECKER, flaw, images=BROKEN_IMAGES)
    reached(
        "T2",
        f"state: {BROKEN_IMAGES} power cuts, {flaw}",
        f"at least {FLAWS[flaw]:.0%} bad",
        f"{len(outcome.bad) / BROKEN_IMAGES:.0%} bad",
        flaw,
    )
    assert outcome.acknowledged >= ACKNOWLEDGED_MIN
    assert len(outcome.bad) >= FLAWS[flaw] * BROKEN_IMAGES, str(outcome)
