"""Does a process that lets calls wait get none, once it does not tell its health either?"""

import asyncio

import pytest

from services.common.breaker import Breaker
from services.common.errors import Reason, ServiceError
from services.common.limits import BREAKER_UNANSWERED_MAX
from tests.servers import settled


class Process:
    """Answers its health or does not, and counts how often it was asked."""

    def __init__(self):
        self.answers = False
        self.asked = 0

    async def probe(self):
        self.asked += 1
        return self.answers


@pytest.fixture
def process():
    """A process that hangs."""
    return Process()


@pytest.fixture
async def breaker(process, monkeypatch):
    """Its breaker, which asks often."""
    monkeypatch.setattr("services.common.breaker.BREAKER_PROBE_SECONDS", 0.001)
    made = Breaker("vector", process.probe)
    yield made
    await made.close()


def call(breaker, error=None):
    """A call that ends so."""
    with breaker.watched():
        if error is not None:
            raise error


def late():
    """What a call that was not answered ends with."""
    return ServiceError(Reason.DEADLINE_EXCEEDED, "late")


def unanswered(breaker, count=BREAKER_UNANSWERED_MAX, error=late):
    """So many calls in a row."""
    for _ in range(count):
        with pytest.raises((ServiceError, asyncio.CancelledError)):
            call(breaker, error())


@pytest.mark.parametrize("error", [late, asyncio.CancelledError])
async def test_it_opens_and_refuses_at_once_until_the_process_answers(breaker, process, error):
    """Unanswered calls and no health: refused, by name. The first answer closes it."""
    unanswered(breaker, error=error)
    await settled(lambda: breaker.is_open)
    with pytest.raises(ServiceError, match="vector process does not answer") as caught:
        call(breaker)
    assert caught.value.reason == Reason.SERVICE_UNAVAILABLE
    assert caught.value.metadata == {"service": "vector"}
    process.answers = True
    await settled(lambda: not breaker.is_open)
    call(breaker)


async def test_short_deadlines_open_nothing(breaker, process):
    """A process that tells its health is called on, however many calls it has let wait."""
    process.answers = True
    for _ in range(4):
        unanswered(breaker)
        await settled(lambda: not breaker._is_looking())
        assert not breaker.is_open
    assert process.asked == 4


@pytest.mark.parametrize("reason", [Reason.RECORD_CORRUPT, Reason.DEADLINE_EXCEEDED])
async def test_any_answer_begins_the_count_anew(breaker, process, reason):
    """An error that the process itself has told is an answer."""
    unanswered(breaker, BREAKER_UNANSWERED_MAX - 1)
    told = ServiceError(reason, "told")
    told.is_passed_on = True
    with pytest.raises(ServiceError):
        call(breaker, told)
    unanswered(breaker, BREAKER_UNANSWERED_MAX - 1)
    await asyncio.sleep(0.01)
    assert process.asked == 0


async def test_a_process_that_is_away_is_not_asked(breaker, process):
    """A refused connection says enough: calls fail at once by themselves."""
    unanswered(breaker, 20, lambda: ServiceError(Reason.SERVICE_UNAVAILABLE, "away"))
    await asyncio.sleep(0.01)
    assert process.asked == 0
