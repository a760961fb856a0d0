"""The checker itself: histories that fit, and histories that do not."""

import pytest

from tests.crash.linearizability.checker import Timed, Verdict, check
from tests.crash.linearizability.item import Call, step

pytestmark = pytest.mark.crash

SET_1 = Call(1, "set", 10, revision=1)
SET_2 = Call(2, "set", 20, revision=2)
OLD, NEW = Call(3, "get", held=(10, 1)), Call(4, "get", held=(20, 2))
NONE = Call(5, "get")
LOST = Call(6, "set", 30, known=False)
FOUND = Call(7, "get", held=(30, 9))


def history(*parts):
    """Each part is (called, returned, call)."""
    return [Timed(*part) for part in parts]


@pytest.mark.parametrize(
    "calls",
    [
        history((0, 1, SET_1), (2, 3, OLD), (4, 5, SET_2), (6, 7, NEW)),
        history((0, 9, SET_1), (1, 8, SET_2), (2, 3, NONE), (4, 5, OLD), (6, 7, NEW)),
        history((0, 1, SET_1), (2, 9, LOST), (3, 4, OLD), (5, 6, FOUND)),
        history((0, 1, SET_1), (2, 9, LOST), (3, 4, OLD), (10, 11, OLD)),
        history((0, 1, SET_1), (2, 3, Call(8, "swap", 7, expected=1, revision=3))),
        history((0, 1, SET_1), (2, 3, Call(8, "swap", 7, expected=4, revision=1, refused=True))),
        history((0, 1, Call(8, "add", 1, held=(1, 1))), (2, 3, Call(9, "delete", deleted=True))),
    ],
)
def test_what_one_copy_can_do_fits(calls):
    """Overlapping calls in either order, lost writes done or undone, swaps that hold or not."""
    assert check(calls, None, step) is Verdict.FITS


@pytest.mark.parametrize(
    "calls",
    [
        history((0, 1, SET_1), (2, 3, SET_2), (4, 5, OLD)),
        history((0, 1, SET_1), (2, 3, NONE)),
        history((0, 9, SET_1), (1, 8, SET_2), (2, 3, NEW), (4, 5, OLD)),
        history((0, 1, SET_1), (2, 5, LOST), (3, 4, FOUND), (6, 7, OLD)),
        history((0, 1, SET_1), (2, 3, Call(8, "swap", 7, expected=4, revision=3))),
        history((0, 1, SET_1), (2, 3, Call(8, "add", 1, held=(1, 2)))),
        history((0, 1, SET_1), (2, 3, Call(9, "delete", deleted=False))),
    ],
)
def test_what_no_copy_can_do_does_not(calls):
    """A stale read, a lost write, time that runs back, a swap past its condition, a lost add."""
    assert check(calls, None, step) is Verdict.VIOLATED


def test_a_search_without_end_is_given_up():
    """Undecided is said, and is no pass."""
    calls = history(*((0, 99, Call(n, "set", n, known=False)) for n in range(1, 18)))
    impossible = history((100, 101, Call(50, "get", held=(99, 99))))
    assert check(calls + impossible, None, step, steps_max=1000) is Verdict.UNDECIDED
