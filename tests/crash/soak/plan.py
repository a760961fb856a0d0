"""Which fault comes next, where, for how long and after what pause: a seed tells all of it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from tests.integration.apart import EDGES, NAMES

PLACES: dict[str, Sequence[tuple[str, ...]]] = {
    "kill": [(name,) for name in NAMES],
    "stop": [(name,) for name in NAMES],
    "hold": EDGES,
    "lose": EDGES,
    "reset": EDGES,
    "half-close": EDGES,
    "slow": EDGES,
    "storm": [("runtime",)],
}
"""What can happen, and to which process or between which two; a storm is one of bad scripts."""
SPARING = tuple(kind for kind in PLACES if kind != "kill")
"""They leave each process alive, so that its memory can be looked at over minutes."""
KILL_EVERY = 3
HOLD_S = (0.5, 2.5)
PAUSE_S = (0.5, 2.5)


@dataclass(frozen=True, slots=True)
class Fault:
    """One of them."""

    kind: str
    where: tuple[str, ...]
    hold_s: float
    """How long it lasts."""
    pause_s: float
    """How long all has been well before it."""

    def __str__(self) -> str:
        return f"{self.kind} {'-'.join(self.where)} for {self.hold_s:.1f} s"


def faults(seed: int, *, kills: bool) -> Iterator[Fault]:
    """They never end; each kind comes once before any comes again, and so does each of its places.

    Args:
        seed: Tells all of it.
        kills: Whether the first of them, and each third from there, kills a process.
    """
    chance = random.Random(f"{seed} {kills}")
    places = {kind: _dealt(chance, PLACES[kind]) for kind in PLACES}
    others = _dealt(chance, SPARING)
    for number in count():
        kind = "kill" if kills and number % KILL_EVERY == 0 else next(others)
        yield Fault(kind, next(places[kind]), chance.uniform(*HOLD_S), chance.uniform(*PAUSE_S))


def _dealt(chance: random.Random, cards: Sequence) -> Iterator:
    while True:
        yield from chance.sample(cards, len(cards))
