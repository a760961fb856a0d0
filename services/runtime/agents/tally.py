"""What an agent has spent, those within it included, and the purses that pay for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from services.common.errors import ServiceError
from services.runtime.money.model import NOTHING_SPENT, Account, Amount, Purse, Spent, to_nano
from services.runtime.providers.model import ChatAnswer, ChatRequest, Hears


class AsksModel(Protocol):
    """The one way to a model, which sees to it that it is paid; `money.metered.Metered` is it."""

    async def chat(
        self,
        account: Account,
        model: str,
        request: ChatRequest,
        *,
        hears: Hears | None = None,
        base_url: str = "",
        api_key: str = "",
    ) -> tuple[ChatAnswer, Spent]:
        """Ask `provider/model`.

        Raises:
            ServiceError: BUDGET_EXHAUSTED, PROVIDER_NOT_FOUND and what `ChatProvider.chat` raises.
        """
        ...


class Tally:
    """Counts for one agent and, through it, for those that it is within."""

    def __init__(
        self,
        outer: Tally | None = None,
        *,
        max_cost_usd: float = 0.0,
        purses: tuple[Purse, ...] = (),
    ) -> None:
        """`max_cost_usd`: 0 is no limit of its own; `purses`: of whoever stands behind it."""
        self._outer = outer
        self._given = purses
        self._purse = Purse.of_usd("agent", max_cost_usd) if max_cost_usd > 0 else None
        self.spent = NOTHING_SPENT

    @property
    def purses(self) -> tuple[Purse, ...]:
        """Its own and those of whom it is within."""
        outer = self._outer.purses if self._outer is not None else self._given
        return (self._purse, *outer) if self._purse is not None else outer

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.spent.input_tokens + self.spent.output_tokens

    def add_model_call(self, spent: Spent) -> None:
        """A model has answered."""
        self.spent += replace(spent, model_calls=1)
        if self._outer is not None:
            self._outer.add_model_call(spent)

    def add_earlier_call(self, spent: Spent) -> None:
        """A model had answered before the process was lost: it is paid, and out of these purses."""
        for purse in self.purses:
            tokens = spent.input_tokens + spent.output_tokens
            purse.spent += Amount(to_nano(spent.cost_usd), tokens)
        self.add_model_call(spent)

    def add_broken_call(self, error: ServiceError) -> None:
        """A call of a model has failed, and says what it took all the same."""
        tokens, cost_usd = error.metadata.get("tokens", ""), error.metadata.get("cost_usd", "")
        try:
            spent = Spent(output_tokens=int(tokens or 0), cost_usd=float(cost_usd or 0))
        except ValueError:
            return
        if spent.output_tokens or spent.cost_usd:
            self.add_model_call(replace(spent, estimated=True))

    def add_tool_calls(self, count: int) -> None:
        """Tools are called."""
        self.spent += Spent(tool_calls=count)
        if self._outer is not None:
            self._outer.add_tool_calls(count)

    def told(self, error: ServiceError) -> ServiceError:
        """The error with what was spent until it came."""
        error.metadata["tokens"] = str(self.tokens)
        error.metadata["cost_usd"] = f"{self.spent.cost_usd:.9g}"
        return error
