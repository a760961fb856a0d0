"""Who is held back for whom, and that nobody is for nothing."""

import asyncio

import pytest

from services.runtime.shares import BURST_SECONDS, PACE, RECENT_SECONDS, Shares


class Time:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def hands():
    """Runs in hand of those who have not four."""
    return {}


@pytest.fixture
def shares(time, hands):
    return Shares(lambda tenant: hands.get(tenant, 4), monotonic=time)


def served(shares, time, seconds, **each):
    """So long, each tenant is served as often as it is let; seconds of service that each had."""
    had = dict.fromkeys(each, 0.0)
    stop = time.now + seconds
    while time.now < stop:
        for tenant, step in each.items():
            if shares.wait_s(tenant) == 0:
                shares.use(tenant, step)
                had[tenant] += step
        time.now += 0.005
    return had


def test_a_tenant_alone_is_never_held_up(shares, time):
    """However much it asks for."""
    assert served(shares, time, 2.0, greedy=0.005)["greedy"] == pytest.approx(2.0, rel=0.01)


def test_beside_a_modest_one_a_greedy_one_keeps_its_pace(shares, time):
    """And no more; the modest one is never held up."""
    had = served(shares, time, 4.0, greedy=0.005, modest=0.0005)
    assert had["modest"] == pytest.approx(0.4, rel=0.01)
    assert had["greedy"] == pytest.approx(4.0 * PACE, rel=0.15)


def test_who_runs_one_after_another_is_not_held_up(shares, time, hands):
    """Even where it has most of all; who has many runs at once leaves it room for that."""
    hands["modest"] = 1
    had = served(shares, time, 4.0, greedy=0.005, modest=0.004)
    assert had["modest"] == pytest.approx(3.2, rel=0.01)
    assert had["greedy"] == pytest.approx(4.0 * PACE, rel=0.15)


def test_who_has_more_in_hand_has_less(shares, time, hands):
    """What is done for it counts as often as it has runs."""
    hands.update(many=8, few=2)
    had = served(shares, time, 4.0, many=0.002, few=0.002)
    assert had["few"] == pytest.approx(1.6, rel=0.01)
    assert had["many"] == pytest.approx(4.0 * PACE, rel=0.15)


def test_what_workers_compute_counts(shares, time):
    """Of two that are served alike, one whose workers spin goes on at its pace; it keeps that."""
    had = dict.fromkeys(("spins", "waits"), 0.0)
    while time.now < 104.0:
        for tenant in had:
            if shares.wait_s(tenant) == 0:
                shares.use(tenant, 0.002)
                had[tenant] += 0.002
        shares.compute("spins", 0.004)
        time.now += 0.005
    assert had["waits"] == pytest.approx(1.6, rel=0.01)
    assert had["spins"] == pytest.approx(4.0 * PACE, rel=0.15)


def test_the_past_does_not_weigh_for_ever(shares, time):
    """A tenant that had far more goes on once the others have had a little."""
    shares.use("before", 0.001)
    shares.use("now", 0.001)
    shares.compute("before", 1000.0)
    assert shares.is_ahead("before")
    for _ in range(60):
        time.now += 0.1
        shares.use("before", 0.0001)
        shares.use("now", 0.01)
    assert not shares.is_ahead("before")


def test_equals_hold_each_other_up_by_nothing(shares, time):
    """Two that have had the same go on, as much as the machine gives."""
    had = served(shares, time, 2.0, one=0.0025, other=0.0025)
    assert had["one"] == pytest.approx(1.0, rel=0.1)
    assert had["other"] == pytest.approx(had["one"], rel=0.1)


def test_one_that_was_away_has_no_claim(shares, time):
    """Who comes back is not owed what the other one used meanwhile."""
    served(shares, time, 5.0, busy=0.005)
    had = served(shares, time, 1.0, busy=0.002, back=0.002)
    assert had["back"] == pytest.approx(had["busy"], rel=0.3)


def test_when_the_others_have_gone_it_goes_on(shares, time):
    """Nobody waits for one who was not served of late."""
    served(shares, time, 1.0, greedy=0.005, modest=0.0005)
    shares.use("greedy", 1.0)
    assert shares.wait_s("greedy") > BURST_SECONDS
    time.now += RECENT_SECONDS * 1.5
    assert shares.wait_s("greedy") == 0


def test_accounts_are_forgotten(shares, time):
    """Nothing grows with the tenants that were ever served."""
    for number in range(1000):
        shares.use(f"t{number}", 0.001)
        time.now += 0.01
    assert len(shares._accounts) < 150


async def test_waiting_ends(shares, time):
    """A coroutine that waits goes on once it is its turn."""
    shares.use("modest", 0.001)
    shares.use("greedy", 0.1)
    assert shares.wait_s("greedy") > 0
    time.now += 1.0
    await shares.wait("greedy")


async def test_those_who_wait_go_on_one_at_a_time(shares, time):
    """Many runs that wait for the pace of their tenant do not all begin when it is there again."""
    shares.use("modest", 0.001)
    shares.use("greedy", 0.1)
    begun = [asyncio.create_task(shares.turn("greedy", 0.1)) for _ in range(8)]
    for _ in range(8):
        shares.use("modest", 0.0)
        await asyncio.sleep(0.06)
        time.now += 0.1
    assert 1 <= sum(task.done() for task in begun) <= 2
    for task in begun:
        task.cancel()
