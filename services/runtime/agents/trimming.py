"""Which messages a model is shown: the newest that fit, no answer torn from its call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from services.runtime.providers.model import Message, Role

CountsTokens = Callable[[Message], int]
NO_LIMIT = 1 << 40


def trimmed(
    messages: Sequence[Message],
    *,
    most: int,
    most_tokens: int = NO_LIMIT,
    tokens_of: CountsTokens = lambda _: 0,
) -> list[Message]:
    """The newest messages that fit, the system's first.

    Calls and their answers go or stay together. What is answered now (the last message of the user
    and all after its newest unit) always stays, and so may be more than the limits allow. What is
    left of the past begins with something that the user said.

    Args:
        messages: The oldest first.
        most: How many, without the system's.
        most_tokens: How many tokens, the system's included.
        tokens_of: How many tokens a message has.
    """
    system = [message for message in messages[:1] if message.role is Role.SYSTEM]
    units = list(_units(messages[len(system) :]))
    kept_now = _now(units)
    count = sum(len(units[place]) for place in kept_now)
    tokens = sum(tokens_of(message) for message in system)
    tokens += sum(tokens_of(message) for place in kept_now for message in units[place])
    kept = set(kept_now)
    for place in range(len(units) - 1, -1, -1):
        if place in kept_now:
            continue
        unit = units[place]
        count += len(unit)
        tokens += sum(map(tokens_of, unit))
        if count > most or tokens > most_tokens:
            break
        kept.add(place)
    chosen = [units[place] for place in sorted(_from_a_question(units, kept, kept_now))]
    return [*system, *(message for unit in chosen for message in unit)]


def _units(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Messages that go or stay together: calls with their answers, every other one alone."""
    unit: list[Message] = []
    for message in messages:
        if message.role is Role.TOOL and unit and unit[0].tool_uses:
            unit.append(message)
            continue
        if unit:
            yield unit
        unit = [message]
    if unit:
        yield unit


def _now(units: Sequence[Sequence[Message]]) -> set[int]:
    """Places of the last question and of the newest unit."""
    asked = [place for place, unit in enumerate(units) if unit[0].role is Role.USER]
    return {*asked[-1:], *range(len(units) - 1, len(units))}


def _from_a_question(
    units: Sequence[Sequence[Message]], kept: set[int], kept_now: set[int]
) -> set[int]:
    """Without answers at the beginning whose question is gone."""
    left = set(kept)
    question = min(kept_now, default=0)
    for place in sorted(kept):
        if place >= question or units[place][0].role is Role.USER:
            break
        left.discard(place)
    return left
