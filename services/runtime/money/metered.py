"""The one place that asks a model: reserves what that may cost, and settles what it did cost.

Every error that leaves has `tokens` and `cost_usd` in its metadata: what the call took all the
same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError
from services.runtime.money.ledger import Ledger, Reservation, Wish
from services.runtime.money.model import FREE, Account, Price, Spent
from services.runtime.money.model_calls import ModelCalls
from services.runtime.money.prices import Prices
from services.runtime.money.rates import TokenRates
from services.runtime.money.tokens import estimate_request, estimate_tokens, most_of_request
from services.runtime.providers.model import (
    ChatAnswer,
    ChatProvider,
    ChatRequest,
    Finish,
    Hears,
    ModelFacts,
    Usage,
)

OUTPUT_TOKENS_UNKNOWN = 4_096
"""What is reserved for an answer where neither request nor provider say how long it may be."""
OUTPUT_TOKENS_LIMITED = 16_384
"""The most that is reserved for an answer of which the request does not say how long it may be."""
OUTPUT_TOKENS_MIN = 64
"""An answer that a budget would cut shorter than that is not asked for."""
TOKENS_A_SECOND = 200
"""What a model may have written of an answer that broke off unseen, for an estimate."""

_UNSPENT = frozenset(
    {
        Reason.MODEL_NOT_FOUND,
        Reason.PROVIDER_UNAVAILABLE,
        Reason.PROVIDER_RATE_LIMITED,
        Reason.PROVIDER_OUT_OF_CREDIT,
        Reason.PROVIDER_KEY_REFUSED,
        Reason.PROVIDER_REFUSED,
        Reason.NOT_IMPLEMENTED,
        Reason.FIELD_INVALID,
    }
)
"""Before a model has read anything, unless the provider says otherwise or something was heard."""


class FindsProviders(Protocol):
    """Knows providers; `providers.registry.Providers` does."""

    async def get(
        self, name: str, tenant: str, *, base_url: str = "", api_key: str = ""
    ) -> ChatProvider:
        """The provider.

        Raises:
            ServiceError: PROVIDER_NOT_FOUND, PROVIDER_KEY_REFUSED.
        """
        ...

    def split(self, model: str) -> tuple[str, str]:
        """The provider's name and the model's at it."""
        ...

    async def facts(self, model: str) -> ModelFacts:
        """What is known of a model."""
        ...


@dataclass(slots=True)
class _Heard:
    """Counts what a model says while it comes, and tells whoever listens."""

    listener: Hears | None
    tokens: int = 0
    """Of this try."""
    lost_tokens: int = 0
    """Of tries that broke off."""
    lost_tries: int = 0
    streamed: bool = field(init=False)

    def __post_init__(self) -> None:
        self.streamed = self.listener is not None

    def text(self, piece: str, /) -> None:
        """A piece."""
        self.tokens += estimate_tokens(piece)
        if self.listener is not None:
            self.listener.text(piece)

    def again(self, why: str, /) -> None:
        """It begins anew; what came before was paid for."""
        if self.tokens:
            self.lost_tokens += self.tokens
            self.lost_tries += 1
        self.tokens = 0
        if self.listener is not None:
            self.listener.again(why)


class Metered:
    """Asks models for whoever pays."""

    def __init__(
        self,
        providers: FindsProviders,
        ledger: Ledger,
        prices: Prices,
        clock: Clock,
        *,
        rates: TokenRates | None = None,
    ) -> None:
        """`rates`: of tokens a minute; None: there is no such limit."""
        self._rates = rates
        self._providers = providers
        self._ledger = ledger
        self._prices = prices
        self._clock = clock
        self.calls = ModelCalls()
        """Counts of what was asked and answered."""

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
        """Ask a model; where a limit holds, what it took is on disk when this returns.

        Args:
            account: Who pays.
            model: As `provider/model`; a model alone is one of openai.
            request: What is asked; its `model` is set here. Where a limit holds, so is
                `max_tokens`, so that the answer stops where the money does.
            hears: Is told of the answer while it comes.
            base_url: Another address of the provider.
            api_key: Key for it.

        Raises:
            ServiceError: BUDGET_EXHAUSTED before anything is spent, or where the answer was cut off
                since a limit had no room for more; QUOTA_EXCEEDED before anything is spent;
                PROVIDER_NOT_FOUND; what the provider raises.
        """
        tenant = account.context.tenant
        at = {"base_url": base_url, "api_key": api_key}
        if self._rates is None or not await self._rates.is_limited(tenant):
            return await self._chat(account, model, request, hears, at)
        most = most_of_request(request) + (request.max_tokens or OUTPUT_TOKENS_UNKNOWN)
        try:
            async with self._rates.hold(tenant, most, wait_s=request.timeout_s) as held:
                try:
                    told = await self._chat(account, model, request, hears, at)
                except ServiceError as error:
                    held.spent = int(error.metadata.get("tokens", 0))
                    raise
                held.spent = told[1].input_tokens + told[1].output_tokens
                return told
        except ServiceError as error:
            error.metadata.setdefault("tokens", "0")
            error.metadata.setdefault("cost_usd", "0")
            raise

    async def _chat(
        self,
        account: Account,
        model: str,
        request: ChatRequest,
        hears: Hears | None,
        at: Mapping[str, str],
    ) -> tuple[ChatAnswer, Spent]:
        """`at`: the provider's other address, and the key for it."""
        try:
            provider_name, name = self._providers.split(model)
            provider = await self._providers.get(provider_name, account.context.tenant, **at)
            price = self._price(provider, provider_name, name)
            request = replace(request, model=name)
            full_name = f"{provider_name}/{name}"
            wish, reservation = await self._reserve(account, full_name, price, request)
        except ServiceError as error:
            raise _with_spent(error, Spent()) from None
        if reservation.is_limited:
            request = replace(request, max_tokens=reservation.output_tokens)
        with self.calls.watched(provider_name, name) as watched:
            answer, spent = await self._ask(provider, request, reservation, hears)
            watched.answered(answer, spent)
        if answer.finish is Finish.LENGTH and reservation.output_tokens < wish.output_tokens_max:
            raise _with_spent(reservation.cut(), spent)
        return answer, spent

    async def _reserve(
        self, account: Account, model: str, price: Price | None, request: ChatRequest
    ) -> tuple[Wish, Reservation]:
        if not await self._ledger.is_limited(account):
            wish = Wish(model=model, price=price, input_tokens=0, output_tokens_max=1)
            reservation = await self._ledger.reserve(account, wish)
            if not reservation.is_limited:
                return wish, reservation
            reservation.release()  # the first budget was set just now
        wish = await self._wish(model, price, request)
        return wish, await self._ledger.reserve(account, wish, wait_s=request.timeout_s)

    async def _wish(self, model: str, price: Price | None, request: ChatRequest) -> Wish:
        most = request.max_tokens or await self._output_tokens(model)
        return Wish(
            model=model,
            price=price,
            input_tokens=most_of_request(request),
            output_tokens_max=most,
            output_tokens_min=min(most, OUTPUT_TOKENS_MIN),
        )

    async def _output_tokens(self, model: str) -> int:
        facts = await self._providers.facts(model)
        return min(facts.output_tokens or OUTPUT_TOKENS_UNKNOWN, OUTPUT_TOKENS_LIMITED)

    def _price(self, provider: ChatProvider, provider_name: str, name: str) -> Price | None:
        price = self._prices.of(provider_name, name)
        return FREE if price is None and provider.capabilities.local else price

    async def _ask(
        self,
        provider: ChatProvider,
        request: ChatRequest,
        reservation: Reservation,
        hears: Hears | None,
    ) -> tuple[ChatAnswer, Spent]:
        heard, begin = _Heard(hears), self._clock.monotonic()
        try:
            answer = await provider.chat(request, hears=heard if hears else None)
        except ServiceError as error:
            usage = _broken(error, request, heard, self._clock.monotonic() - begin)
            raise _with_spent(error, await _settled(reservation, usage)) from None
        except BaseException:
            # Cancelled, mostly: whoever did that does not wait, and the closed connection tells the
            # provider.
            reservation.count(_cut_off(request, heard, self._clock.monotonic() - begin))
            raise
        usage = _with_lost(answer.usage, request, heard)
        answer = replace(answer, usage=usage)
        if not reservation.is_limited:  # nothing hangs on it, so nobody waits for the disk
            return answer, reservation.count(usage)
        return answer, await reservation.settle(usage)


async def _settled(reservation: Reservation, usage: Usage | None) -> Spent:
    if usage is None:
        reservation.release()
        return Spent()
    return await reservation.settle(usage)


def _broken(
    error: ServiceError, request: ChatRequest, heard: _Heard, elapsed_s: float
) -> Usage | None:
    """What a call took that failed; None: nothing."""
    told = error.metadata.get("tokens", "")
    if told.isdecimal():
        tokens = int(told)
        read = min(tokens, estimate_request(request))
        return Usage(input_tokens=read, output_tokens=tokens - read, estimated=True)
    if heard.tokens or heard.lost_tries:
        return _cut_off(request, heard, elapsed_s)
    return None if error.reason in _UNSPENT else _cut_off(request, heard, elapsed_s)


def _cut_off(request: ChatRequest, heard: _Heard, elapsed_s: float) -> Usage:
    """What a call likely took that nobody heard the end of."""
    written = heard.tokens
    if not heard.streamed:
        most = request.max_tokens or OUTPUT_TOKENS_UNKNOWN
        written = min(most, round(TOKENS_A_SECOND * elapsed_s))
    usage = Usage(input_tokens=estimate_request(request), output_tokens=written, estimated=True)
    return _with_lost(usage, request, heard)


def _with_lost(usage: Usage, request: ChatRequest, heard: _Heard) -> Usage:
    """With what tries took that broke off while they answered."""
    if not heard.lost_tries:
        return usage
    return replace(
        usage,
        input_tokens=usage.input_tokens + heard.lost_tries * estimate_request(request),
        output_tokens=usage.output_tokens + heard.lost_tokens,
        estimated=True,
    )


def _with_spent(error: ServiceError, spent: Spent) -> ServiceError:
    """The error, with what was spent."""
    error.metadata["tokens"] = str(spent.input_tokens + spent.output_tokens)
    error.metadata["cost_usd"] = f"{spent.cost_usd:.9f}".rstrip("0").rstrip(".")
    return error
