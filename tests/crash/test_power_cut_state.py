"""The power goes while the state engine writes: is what was answered still there (T2)?"""

import pytest

from tests.crash import scale

WRITER = "tests.crash.state_history"
CHECKER = "tests.crash.state_history:checker"
ACKNOWLEDGED_MIN = 400
BROKEN_IMAGES = scale.count(100, 500)
HEADER_SHARE = 0.1 if scale.SCALE is None else 0.3
"""45 to 52 % are seen, and less where other work makes groups large: few images say little."""

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


@pytest.mark.parametrize(("flaw", "share"), [("nosync", 0.9), ("nometasync", HEADER_SHARE)])
def test_a_store_that_does_not_flush_is_seen(power_cut, reached, flaw, share):
    """Without flushes nine of ten images are bad, without the header's three of ten."""
    outcome = power_cut(WRITER, CHECKER, flaw, images=BROKEN_IMAGES)
    setting = flaw.removeprefix("no") + "=False"
    reached(
        "T2",
        f"state: {BROKEN_IMAGES} power cuts, {setting}",
        f"at least {share:.0%} bad",
        f"{len(outcome.bad) / BROKEN_IMAGES:.0%} bad",
        setting,
    )
    assert outcome.acknowledged >= ACKNOWLEDGED_MIN
    assert len(outcome.bad) >= share * BROKEN_IMAGES, str(outcome)
