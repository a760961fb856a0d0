"""What one item does, as a model: gets, sets, sets under a precondition, increments, deletes.

A state is None, or the number held and its revision. The revision of a write whose answer was lost
is not known; it is a negative number, that of the write, until somebody reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Held = tuple[int, int]
State = Held | None


@dataclass(frozen=True, slots=True)
class Call:
    """One operation and its result."""

    number: int
    """Another for each, from 1 on."""
    kind: str
    """get, set, swap, add or delete."""
    argument: int = 0
    """What is set, or added."""
    expected: int = 0
    """Of a swap: the revision that it asks for."""
    known: bool = True
    """Whether it was answered."""
    held: State = None
    """Of a get: what was there. Of an add: the sum and its revision."""
    revision: int = 0
    """Of a write: the answer's. Of a swap that was refused: the item's, 0 where there was none."""
    refused: bool = False
    deleted: bool = False


def step(state: State, call: Call) -> Sequence[State]:
    """The states that a call can lead to; none where its result does not fit."""
    if not call.known:
        return _unknown(state, call)
    return _KNOWN[call.kind](state, call)


def _unknown(state: State, call: Call) -> Sequence[State]:
    """It took effect, or it did not."""
    lost = -call.number
    if call.kind == "get":
        return [state]
    if call.kind == "set":
        return [(call.argument, lost), state]
    if call.kind == "swap":
        applies = state is not None and _fits(state[1], call.expected)
        return [(call.argument, lost), state] if applies else [state]
    if call.kind == "add":
        return [((state[0] if state else 0) + call.argument, lost), state]
    return [None, state]


def _get(state: State, call: Call) -> Sequence[State]:
    if state is None or call.held is None:
        return [state] if state is call.held else []
    return [call.held] if state[0] == call.held[0] and _fits(state[1], call.held[1]) else []


def _set(state: State, call: Call) -> Sequence[State]:
    return [(call.argument, call.revision)] if _later(state, call.revision) else []


def _swap(state: State, call: Call) -> Sequence[State]:
    if not call.refused:
        fits = state is not None and _fits(state[1], call.expected)
        return _set(state, call) if fits else []
    if state is None or call.revision == 0:
        return [state] if state is None and call.revision == 0 else []
    fits = call.revision != call.expected and _fits(state[1], call.revision)
    return [(state[0], call.revision)] if fits else []


def _add(state: State, call: Call) -> Sequence[State]:
    assert call.held is not None
    total = (state[0] if state else 0) + call.argument
    return [call.held] if total == call.held[0] and _later(state, call.held[1]) else []


def _delete(state: State, call: Call) -> Sequence[State]:
    return [None] if call.deleted == (state is not None) else []


_KNOWN = {"get": _get, "set": _set, "swap": _swap, "add": _add, "delete": _delete}


def _fits(revision: int, seen: int) -> bool:
    """Whether a state's revision may be the one that was seen."""
    return revision == seen or revision < 0


def _later(state: State, revision: int) -> bool:
    """Revisions rise."""
    return state is None or state[1] < revision
