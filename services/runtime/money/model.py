"""Amounts, limits and who pays, without a word of how they are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from services.common.context import CallContext

NANO = 10**9
"""Money is counted in whole billionths of a US dollar, so that sums are exact."""


def to_nano(usd: float) -> int:
    """US dollars as billionths, rounded to the nearest."""
    return round(usd * NANO)


@dataclass(frozen=True, slots=True)
class Amount:
    """Money and tokens together."""

    nano: int = 0
    """Billionths of a US dollar."""
    tokens: int = 0
    """Read and written."""

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.nano + other.nano, self.tokens + other.tokens)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.nano - other.nano, self.tokens - other.tokens)

    def covers(self, other: Amount) -> bool:
        """Whether it is at least as much in both."""
        return self.nano >= other.nano and self.tokens >= other.tokens

    def at_least(self, other: Amount) -> Amount:
        """The larger of both, each for itself."""
        return Amount(max(self.nano, other.nano), max(self.tokens, other.tokens))


NOTHING = Amount()


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs, in US dollars a million tokens."""

    input_usd: float = 0.0
    output_usd: float = 0.0
    cached_usd: float | None = None
    """Of tokens that the provider had in its cache; None: as others."""
    tiers: tuple[tuple[int, Price], ...] = ()
    """From so many tokens read on, another price holds for all of them; in rising order."""

    def at(self, input_tokens: int) -> Price:
        """The price that holds where so many tokens are read."""
        held = self
        for start, price in self.tiers:
            if input_tokens > start:
                held = price
        return held

    def nano(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> int:
        """What so many tokens cost, in billionths of a US dollar, rounded up."""
        held = self.at(input_tokens)
        cached_usd = held.input_usd if held.cached_usd is None else held.cached_usd
        kept = min(cached_tokens, input_tokens)
        usd = (input_tokens - kept) * held.input_usd + kept * cached_usd
        return math.ceil(1000 * (usd + output_tokens * held.output_usd) - 1e-6)


FREE = Price()


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens and money that calls of models took, and how many calls there were."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of `input_tokens`, those that the provider had in its cache."""
    cost_usd: float = 0.0
    estimated: bool = False
    """Whether a part of it is a guess: the provider did not say, or the model has no price."""
    model_calls: int = 0
    """Counted by who asks; an account of a single call has none."""
    tool_calls: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cost_usd + other.cost_usd,
            self.estimated or other.estimated,
            self.model_calls + other.model_calls,
            self.tool_calls + other.tool_calls,
        )


NOTHING_SPENT = Spent()


@dataclass(slots=True, kw_only=True)
class Purse:
    """A limit, and what was taken of it; whoever owns the limit holds it, and calls draw from it.

    Nothing in it waits, so that between a look and a draw nobody else comes.
    """

    name: str
    """As an error tells it: `run`, `agent`, `workflow`, `tenant/month`."""
    limit_nano: int = 0
    """0: no limit of money."""
    limit_tokens: int = 0
    """0: no limit of tokens."""
    spent: Amount = NOTHING
    reserved: Amount = NOTHING
    """By calls under way."""
    others: Amount = NOTHING
    """What other processes have spent of it, and hold."""

    @classmethod
    def of_usd(cls, name: str, limit_usd: float) -> Purse:
        """A purse of so many US dollars."""
        return cls(name=name, limit_nano=max(to_nano(limit_usd), 1))

    @property
    def mine(self) -> Amount:
        """What this process has spent, and holds."""
        return self.spent + self.reserved

    @property
    def taken(self) -> Amount:
        """All that is spent or held."""
        return self.mine + self.others

    def free(self) -> Amount:
        """What is left; of what has no limit, more than anybody asks for."""
        taken = self.taken
        return Amount(
            self.limit_nano - taken.nano if self.limit_nano else _ENDLESS,
            self.limit_tokens - taken.tokens if self.limit_tokens else _ENDLESS,
        )


_ENDLESS = 1 << 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """Who stands behind an agent, such as a workflow."""

    purses: tuple[Purse, ...] = ()
    """Its limits, which all that it asks draw from together."""
    run_id: str = ""
    """Under which accounts have it; empty: the run of the caller."""


NOBODY = Payer()
"""Nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who pays for a call of a model."""

    context: CallContext
    """Of the caller: its tenant pays."""
    agent: str = ""
    """Name of the agent, for its budget and for accounts; empty: none."""
    run_id: str = ""
    """Run of a script or a workflow that it is for; empty: none."""
    limits: tuple[Purse, ...] = field(default=())
    """Those of a run, an agent's execution and a workflow, held by whoever began these."""
