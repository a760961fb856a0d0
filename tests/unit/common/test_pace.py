"""The pace of refusals."""

from services.common.clock import FakeClock
from services.common.pace import WAIT_S_MAX, Pace


def test_refusals_are_at_once_until_there_are_many():
    """The first ones do not wait, what follows is spread over time, and a pause ends it."""
    clock = FakeClock()
    pace = Pace(a_second=100, at_once=10, monotonic=clock.monotonic)
    waits = [pace.wait_s("acme") for _ in range(60)]
    assert waits[:11] == [0.0] * 11
    assert [round(wait, 3) for wait in waits[11:14]] == [0.01, 0.02, 0.03]
    assert pace.wait_s("globex") == 0.0
    clock.advance(1.0)
    assert pace.wait_s("acme") == 0.0


def test_the_pace_follows_what_is_served():
    """A process that gets much done has time for more refusals."""
    clock = FakeClock()
    pace = Pace(a_second=100, at_once=10, monotonic=clock.monotonic)
    for _ in range(3000):
        pace.count_served()
    clock.advance(1.0)
    waits = [pace.wait_s("acme") for _ in range(20)]
    assert [round(wait, 3) for wait in waits[10:14]] == [0.0, 0.001, 0.002, 0.003]


def test_nothing_waits_for_long():
    """A flood of any size: no refusal waits longer than the bound, and none is forgotten about."""
    clock = FakeClock()
    pace = Pace(a_second=100, at_once=10, monotonic=clock.monotonic)
    assert max(pace.wait_s("acme") for _ in range(10_000)) == WAIT_S_MAX
    clock.advance(WAIT_S_MAX + 0.2)
    assert pace.wait_s("acme") == 0.0


def test_who_was_refused_long_ago_is_forgotten(monkeypatch):
    """Nothing grows with the callers that were ever refused."""
    monkeypatch.setattr("services.common.pace._CALLERS_KEPT", 10)
    clock = FakeClock()
    pace = Pace(monotonic=clock.monotonic)
    for number in range(100):
        pace.wait_s(str(number))
        clock.advance(1.0)
    assert len(pace._next_s) <= 10
