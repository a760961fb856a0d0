"""The power goes while the vector engine writes: is what was answered still there, and findable?"""

import pytest

WRITER = "tests.crash.vector_history"
CHECKER = "tests.crash.vector_history:checker"
ACKNOWLEDGED_MIN = 400
NAMES = ("data.mdb", "LOCK")
"""What is the truth; all else is made from it again."""

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]


def test_no_acknowledged_record_is_lost(power_cut, image_count):
    """Every image opens, has all that was acknowledged, nothing by halves, and finds it."""
    outcome = power_cut(WRITER, CHECKER, images=image_count, names=NAMES)
    assert outcome.acknowledged >= ACKNOWLEDGED_MIN, "too little was written for a verdict"
    assert not outcome.bad, outcome


def test_the_vector_test_has_teeth(power_cut):
    """Without flushes at least nine of ten images are bad, so a good verdict means something."""
    outcome = power_cut(WRITER, CHECKER, "nosync", images=50, names=NAMES)
    assert outcome.acknowledged >= ACKNOWLEDGED_MIN
    assert len(outcome.bad) >= 45, outcome
