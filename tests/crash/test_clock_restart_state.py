"""The real state process under a wall clock that is moved from outside, with restarts between (T6).

The clock of the machine, as far as the process sees it (clock.c): an hour and a day back, standing
still, ten years ahead and right again. Nothing ends early, nothing that has ended is answered or
comes back, revisions and sequences of events rise, sessions live as long as they should, and calls
with deadlines go on.
"""

import time
from functools import partial

import grpc
import pytest
from llmspell.v1 import (
    event_pb2,
    event_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    state_pb2,
    state_pb2_grpc,
)

from tests.crash import scale
from tests.crash.clock import Clock
from tests.crash.conftest import _library
from tests.crash.nursery import Nursery, channel_to
from tests.crash.state_clients import TENANTS, caller

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400
SHORT_S = 0.3
OFTEN, SELDOM = "state.sweep_interval_s=0.05", "state.sweep_interval_s=60"
"""Where nothing is swept what has ended is still there, and must be answered by nobody."""
ACTIVE = session_pb2.SESSION_STATUS_ACTIVE


@pytest.fixture
def clock(tmp_path, tmp_path_factory):
    """The clock of the processes that this test starts."""
    made = Clock(_library(tmp_path_factory, "clock"), tmp_path / "clock")
    made.nursery = Nursery(made.environment)
    yield made
    made.nursery.close()


class Tenant:
    """What a tenant has, over whichever process serves."""

    def __init__(self, name):
        self.name = name
        self._metadata = caller(name)
        self.revisions, self.sequences = [], []
        self.stays = {"stays", "hours"}
        self.sessions = set()

    def reach(self, channel):
        """Go on over a channel."""
        self._state = state_pb2_grpc.StateServiceStub(channel)
        self._events = event_pb2_grpc.EventServiceStub(channel)
        self._sessions = session_pb2_grpc.SessionServiceStub(channel)

    def _call(self, method, request):
        return method(request, metadata=self._metadata, timeout=60)

    def write(self, key, ttl_s=None, request_id=""):
        """One item, which may end; its revision."""
        value = state_pb2.Payload(text=key)
        request = state_pb2.SetStateRequest(
            scope="global", key=key, value=value, request_id=request_id
        )
        if ttl_s is not None:
            request.ttl.FromNanoseconds(int(ttl_s * 1e9))
        return self._call(self._state.SetState, request).revision

    def begin(self):
        """What is there from the beginning."""
        self.revisions.append(self.write("stays"))
        self.revisions.append(self.write("hours", 2 * HOUR))
        self.revisions.append(self.write("gone", SHORT_S))
        request = session_pb2.CreateSessionRequest(session_id="s")
        request.timeout.FromSeconds(2 * HOUR)
        self._call(self._sessions.CreateSession, request)

    def go_on(self, name):
        """Write an item, one that ends soon, and an event."""
        self.revisions.append(self.write(f"after {name}"))
        self.stays.add(f"after {name}")
        once = self.write(f"short {name}", SHORT_S, request_id=f"{self.name} {name}")
        again = self.write(f"short {name}", SHORT_S, request_id=f"{self.name} {name}")
        assert once == again, "a repeated write is one write, whatever the clock does"
        self.revisions.append(once)
        request = event_pb2.PublishEventsRequest()
        request.events.add(type="clock.moved", json="{}")
        self.sequences.append(self._call(self._events.PublishEvents, request).first_sequence)

    def check(self, *more):
        """Nothing else is there, nothing is missing, neither one by one nor in a list."""
        request = state_pb2.ListStateRequest(scope="global", page_size=1000)
        page = self._call(self._state.ListState, request)
        assert {item.key for item in page.items} == self.stays | set(more)
        for key in ("gone", "hours"):
            request = state_pb2.GetStateRequest(scope="global", key=key)
            try:
                self._call(self._state.GetState, request)
                assert key in self.stays
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND  # noqa: PT017
                assert key not in self.stays

    def is_active(self):
        """Whether the session that may be idle for two hours is."""
        request = session_pb2.GetSessionRequest(session_id="s")
        try:
            answer = self._call(self._sessions.GetSession, request)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND  # noqa: PT017
            return False  # its retention is over as well
        return answer.session.status == ACTIVE

    def check_order(self):
        """Revisions and sequences rise, and events are listed in their order."""
        assert self.revisions == sorted(set(self.revisions))
        assert self.sequences == sorted(set(self.sequences))
        request = event_pb2.ListEventsRequest(pattern="clock.moved", page_size=1000)
        listed = [each.sequence for each in self._call(self._events.ListEvents, request).events]
        assert listed == self.sequences[-len(listed) :], "all of the last, in their order"
        assert len(listed) == len(self.sequences) or "hours" not in self.stays


MOVES = {
    "an hour back": lambda clock: clock.move(-HOUR),
    "a day back": lambda clock: clock.move(-DAY),
    "frozen": lambda clock: clock.stop(),
}


def test_a_clock_moved_between_and_during_runs(clock, tmp_path, reached):
    """An hour and a day back, frozen, ten years ahead, right again: over a start and meanwhile."""
    tenants = [Tenant(name) for name in TENANTS]
    _under(clock, tmp_path, lambda: _begin(tenants), tenants)
    for name, move in MOVES.items():
        work = partial(_short, tenants, f"{name}, over a start")
        _under(clock, tmp_path, work, tenants, move)
        clock.move(0)
        if scale.SCALE is not None:  # for `make test` test_clock_state.py has that
            work = partial(_meanwhile, clock, move, tenants, f"{name}, meanwhile")
            _under(clock, tmp_path, work, tenants)
            clock.move(0)
    _under(clock, tmp_path, lambda: _ahead(clock, tenants), tenants, sweeps=OFTEN)
    _under(clock, tmp_path, lambda: _short(tenants, "right again"), tenants)
    reached(
        "T6",
        "state process: clock.c: -1 hour, -1 day, frozen, +10 years, over starts too",
        "nothing early, nothing back, order rises",
        "held",
        "time that begins anew with each start",
    )


def test_time_that_begins_anew_is_seen(clock, tmp_path):
    """Teeth: where each start believes the clock, what has ended and is not swept comes back."""
    tenants = [Tenant(name) for name in TENANTS]
    _under(clock, tmp_path, lambda: _begin(tenants), tenants)

    def check():
        for each in tenants:
            each.check()

    with pytest.raises(AssertionError, match="gone"):
        _under(clock, tmp_path, check, tenants, lambda clock: clock.move(-HOUR), flaw="new_time")
    _under(clock, tmp_path, check, tenants, lambda clock: clock.move(-HOUR))


def _under(clock, tmp_path, work, tenants, move=None, *, sweeps=SELDOM, flaw=""):
    """Work with a process that is killed in the end."""
    if move is not None:
        move(clock)
    data = tmp_path / "data"
    with (
        clock.nursery.started(data, sweeps, flaw=flaw) as up,
        channel_to(up) as channel,
    ):
        for each in tenants:
            each.reach(channel)
        work()
        for each in tenants:
            each.check_order()
            assert each.is_active() == ("hours" in each.stays)


def _begin(tenants):
    for each in tenants:
        each.begin()
    _wait(tenants)


def _wait(tenants):
    """Until what is to end soon has ended; a change that comes later says that it was so late."""
    time.sleep(SHORT_S + 0.1)
    for each in tenants:
        each.check()
        each.revisions.append(each.write("stays"))


def _meanwhile(clock, move, tenants, name):
    move(clock)
    _short(tenants, name)


def _short(tenants, name):
    """What is to end soon is there for as long, and not longer."""
    for each in tenants:
        each.check()
        each.go_on(name)
        each.check(f"short {name}")
    _wait(tenants)


def _ahead(clock, tenants):
    """Ten years later all that had an end has ended; it does not come back when time does."""
    clock.move(10 * YEAR)
    for each in tenants:
        each.stays.discard("hours")
        each.check()
        each.go_on("ten years later")
    time.sleep(SHORT_S + 0.1)
    clock.move(0)
    for each in tenants:
        each.check()
        each.go_on("in time again")
    time.sleep(SHORT_S + 0.1)
    for each in tenants:
        each.check()
