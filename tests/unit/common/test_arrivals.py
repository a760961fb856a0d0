"""The queue in front of a store's writer."""

from __future__ import annotations

import asyncio

import pytest

from services.common import arrivals as module
from services.common.arrivals import Arrivals, Waiting
from services.common.errors import Reason, ServiceError


def _nothing(_):
    return None


def _other(_):
    return None


def _waiting(operation=_nothing):
    loop = asyncio.new_event_loop()
    try:
        return Waiting(operation, loop, loop.create_future(), grows=False)
    finally:
        loop.close()


def test_they_leave_in_the_order_in_which_they_came():
    """What may not share a group stays the next; what came behind it comes behind it."""
    line = Arrivals()
    one, alone, two = _waiting(), _waiting(_other), _waiting()
    for each in (one, alone, two):
        line.join(each)
    assert line.first() is one
    assert line.more(unless=_other) is None
    assert line.first() is alone
    assert line.more(unless=_other) is two
    assert line.more(unless=_other) is None


def test_a_closed_one_gives_out_what_waits_and_takes_nothing_more():
    """The mark of the end comes last, and stays there however often it is looked at."""
    line = Arrivals()
    waits = _waiting()
    line.join(waits)
    assert line.close()
    assert not line.close()
    with pytest.raises(ServiceError) as refused:
        line.join(_waiting())
    assert refused.value.reason is Reason.SERVICE_UNAVAILABLE
    assert line.first() is waits
    assert line.more(unless=_other) is None
    assert line.first() is None


def _crowd(monkeypatch, line, *, coming):
    """How often it looks while that many more come, one in each pause."""
    looks = []

    def pause(_):
        looks.append(1)
        if len(looks) <= coming:
            line.join(_waiting())

    monkeypatch.setattr(module.time, "sleep", pause)
    return looks


@pytest.mark.parametrize(("together", "waiting"), [(1, 0), (2, 2), (1, 4)])
def test_a_few_writers_never_wait(monkeypatch, together, waiting):
    """One, two or four callers get their flush at once."""
    line = Arrivals()
    looks = _crowd(monkeypatch, line, coming=9)
    for _ in range(waiting):
        line.join(_waiting())
    line.gather(together)
    assert looks == []


@pytest.mark.parametrize(("coming", "looks"), [(0, 1), (2, 3), (99, 4)])
def test_a_crowd_is_waited_for_while_it_comes(monkeypatch, coming, looks):
    """Until nobody came between two looks; two milliseconds at most."""
    line = Arrivals()
    seen = _crowd(monkeypatch, line, coming=coming)
    line.gather(6)
    assert len(seen) == looks
