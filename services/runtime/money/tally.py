"""One budget in one window of time, as one process sees it.

A process holds a *claim*, kept in state: as much as it has spent, has reserved, and may reserve
next. All claims together never exceed the limit, so that a reservation within the claim needs no
write; what a process that was killed had claimed counts as spent until the window ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.runtime.money.model import NOTHING, Amount, Purse
from services.runtime.money.periods import Period, days_prefix, window_of
from services.runtime.money.shelf import CLAIMS, GATE, ClaimRecord, Kept, RowRecord

TENANT = "tenant"
OPERATOR = "operator"
"""The subject of the budget that the operator gives a tenant, which cannot change it."""
HEADROOM_SHARE = 4
"""At most such a part of what is left is claimed before it is needed."""


@dataclass(frozen=True, slots=True, order=True)
class BudgetKey:
    """Which budget."""

    subject: str
    """`tenant`, or `agent:NAME`."""
    period: Period

    def concerns(self, agent: str) -> bool:
        """Whether what this agent spends counts for it."""
        if self.subject in {TENANT, OPERATOR}:
            return True
        return agent != "" and self.subject == f"agent:{agent}"

    def __str__(self) -> str:
        return f"{self.subject}/{self.period}"


@dataclass(slots=True)
class Tally:
    """What is known of it."""

    budget: BudgetKey
    day: str
    """A day in its window."""
    purse: Purse
    secured: Amount = NOTHING
    """Of what is reserved, that which the claim in state covers."""
    claim: Amount = NOTHING
    """As state has it at least."""
    gate: int = 0
    """Revision of the gate when others' claims were read."""
    headroom: Amount = NOTHING
    """Of the latest reservation: so much more is claimed, for the next one."""
    unsure: bool = True
    """Whether state may have something else than `claim`."""
    rows_of_others: dict[str, Amount] = field(default_factory=dict)

    @property
    def window(self) -> str:
        """Which day or month."""
        return window_of(self.budget.period, self.day)

    @property
    def prefix(self) -> str:
        """Where its claims are."""
        return f"{CLAIMS}{self.budget.period}/{self.window}/{self.budget.subject}/"

    @property
    def gate_key(self) -> str:
        """Where its gate is."""
        return self.prefix + GATE

    def concerns(self, agent: str, day: str) -> bool:
        """Whether what this agent spends on that day counts."""
        return self.budget.concerns(agent) and self.concerns_day(day)

    def concerns_day(self, day: str) -> bool:
        """Whether the day is in its window."""
        return window_of(self.budget.period, day) == self.window

    def secures(self, amount: Amount) -> bool:
        """Whether the claim covers this beside all that it covers already."""
        return self.claim.covers(self.purse.spent + self.secured + amount)

    def want(self) -> Amount:
        """What should be claimed: no more than there is, no less than what is spent and secured."""
        purse, mine = self.purse, self.purse.mine
        left = purse.free()  # beside what is reserved, secured or not
        wish = Amount(
            mine.nano + min(self.headroom.nano, left.nano // HEADROOM_SHARE),
            mine.tokens + min(self.headroom.tokens, left.tokens // HEADROOM_SHARE),
        )
        most = left + mine
        affordable = Amount(min(wish.nano, most.nano), min(wish.tokens, most.tokens))
        return (purse.spent + self.secured).at_least(affordable)

    def read_rows(self, kept: Iterable[Kept[RowRecord]], lane: str) -> None:
        """Count what was spent before, by this process and by others."""
        for one in kept:
            day, _, name = one.key.partition("/")[2].partition("/")
            if not self.concerns(one.record.agent, day):
                continue
            record, whose = one.record, name.partition("-")[0]
            amount = Amount(record.nano, record.input_tokens + record.output_tokens)
            if whose == lane:
                self.purse.spent += amount
            else:
                self.rows_of_others[whose] = self.rows_of_others.get(whose, NOTHING) + amount

    def read_claims(self, kept: Iterable[Kept[ClaimRecord]], gate: int, lane: str) -> None:
        """Take over what other processes claim."""
        others = dict(self.rows_of_others)
        for one in kept:
            whose = one.key.rpartition("/")[2]
            if whose != lane:
                claim = Amount(one.record.nano, one.record.tokens)
                others[whose] = others.get(whose, NOTHING).at_least(claim)
        self.gate = gate
        self.purse.others = sum(others.values(), NOTHING)


def rows_prefix(tally: Tally) -> str:
    """What the days of its window begin with."""
    return days_prefix(tally.budget.period, tally.day)
