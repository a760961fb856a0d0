"""Where a list of steps stands, and what holds there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.runtime.money.model import Amount, Purse, Spent, to_nano
from services.runtime.workflows.model import OnError, Retry


@dataclass(frozen=True, slots=True)
class Place:
    """Where a list of steps stands."""

    path: str
    """In front of a step's name; empty or with a `/` at its end."""
    workflow: str
    on_error: OnError
    retry: Retry | None
    depth: int = 0
    purses: tuple[Purse, ...] = ()
    """What the workflows that it stands in may spend, but for the outermost."""

    def under(self, name: str) -> Place:
        """Of what stands within something of this name."""
        return replace(self, path=f"{self.path}{name}/")

    def pay_again(self, spent: Spent) -> None:
        """Count what was paid by a process that was lost."""
        for purse in self.purses:
            purse.spent += Amount(to_nano(spent.cost_usd))
