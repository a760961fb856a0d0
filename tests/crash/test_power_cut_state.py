"""The power goes while the state engine writes: is what was answered still there?"""

import pytest

WRITER = "tests.crash.state_history"
CHECKER = "tests.crash.state_history:checker"
ACKNOWLEDGED_MIN = 400

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]


def test_nothing_acknowledged_is_lost(power_cut, image_count):
    """Every image opens, has all that was acknowledged, and nothing by halves."""
    outcome = power_cut(WRITER, CHECKER, images=image_count)
    assert outcome.acknowledged >= ACKNOWLEDGED_MIN, "too little was written for a verdict"
    assert not outcome.bad, str(outcome)


def test_the_test_has_teeth(power_cut):
    """Without flushes at least nine of ten images are bad, so a good verdict means something."""
    outcome = power_cut(WRITER, CHECKER, "nosync", images=50)
    assert outcome.acknowledged >= ACKNOWLEDGED_MIN
    assert len(outcome.bad) >= 45, str(outcome)
