"""services.common.expiry."""

import asyncio

import pytest

from services.common.clock import FakeClock
from services.common.errors import Reason, ServiceError
from services.common.expiry import SLICE, ForwardTime, sweep_all, sweep_forever


def test_time_follows_the_wall_clock():
    """Time is the wall clock's as long as that goes forward, jumps ahead included."""
    clock = FakeClock()
    time = ForwardTime(clock)
    clock.advance(5)
    assert time.now_ns() == clock.now_ns()
    clock._now_ns += 10**18
    assert time.now_ns() == clock.now_ns()


def test_time_never_goes_back():
    """A wall clock that is set back stops nothing: time goes on from where it was."""
    clock = FakeClock()
    time = ForwardTime(clock)
    before = time.now_ns()
    clock.advance(-3600)
    assert time.now_ns() == before
    clock.advance(7)
    assert time.now_ns() == before + 7 * 10**9
    clock.advance(3600)
    assert time.now_ns() == before + 3607 * 10**9


class Heap:
    """Something to be swept, with so many left, that may fail."""

    def __init__(self, left, *, failures=0):
        self.left = left
        self.failures = failures
        self.slices = []
        self.empty = asyncio.Event()

    async def sweep(self, limit=SLICE):
        if self.failures:
            self.failures -= 1
            raise ServiceError(Reason.STORAGE_FULL, "The disk is full.")
        removed = min(limit, self.left)
        self.left -= removed
        self.slices.append(removed)
        if not self.left:
            self.empty.set()
        return removed


async def test_sweep_all_goes_slice_by_slice():
    """All goes, never more than a slice at a time."""
    heap = Heap(2 * SLICE + 3)
    assert await sweep_all(heap) == 2 * SLICE + 3
    assert heap.slices == [SLICE, SLICE, 3]


async def test_loop_sweeps_until_cancelled():
    """The loop sweeps, outlives a failure, and ends when cancelled."""
    heap = Heap(SLICE + 1, failures=2)
    task = asyncio.create_task(sweep_forever(heap, 0.0))
    await heap.empty.wait()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_after_a_start_time_goes_on_where_the_store_was():
    """Under a clock that was set back by an hour; one that was ten years ahead is not believed."""
    clock = FakeClock()
    known_ns = clock.now_ns() + 3600 * 10**9
    time = ForwardTime(clock, not_before_ns=known_ns)
    clock.advance(5)
    assert time.now_ns() == known_ns + 5 * 10**9
    clock.advance(2 * 3600)
    assert time.now_ns() == known_ns + 7205 * 10**9
    far_ns = clock.now_ns() + 10 * 365 * 86_400 * 10**9
    assert ForwardTime(clock, not_before_ns=far_ns).now_ns() == clock.now_ns()
    assert ForwardTime(clock, not_before_ns=1).now_ns() == clock.now_ns()
