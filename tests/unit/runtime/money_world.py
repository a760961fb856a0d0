"""State's real servicer over a real store, where a relay would be."""

import asyncio

from google.protobuf import message_factory

from services.common.context import CallContext, set_context
from services.common.errors import Reason, ServiceError
from services.common.paging import PageTokens
from services.runtime.money.ledger import Ledger, Wish
from services.runtime.money.model import Account, Price
from services.state.servicers.state import StateParts, StateServicer

DOLLAR = Price(input_usd=1.0, output_usd=1_000_000.0)
"""A token written costs a dollar, one read a millionth."""


class DirectState:
    """Answers `Relay.call` from a state servicer of this process."""

    def __init__(self, keeper):
        self._servicer = StateServicer(StateParts.over(keeper), PageTokens(bytes(32)))
        self.calls = []
        self.is_away = False
        self.before = {}
        """Method name → a coroutine function awaited before it is answered."""

    async def call(self, method, request, context, *, timeout_s):
        """As `services.common.relay.Relay.call`."""
        assert timeout_s > 0
        name = method.descriptor.name
        self.calls.append(name)
        if self.is_away:
            raise ServiceError(Reason.SERVICE_UNAVAILABLE, "Away.", service="state")
        if name in self.before:
            await self.before[name]()
        message = message_factory.GetMessageClass(method.descriptor.input_type).FromString(request)
        served = asyncio.create_task(self._serve(name, message, context))
        return (await asyncio.shield(served)).SerializeToString()

    async def _serve(self, name, message, context):
        set_context(context)
        return await getattr(self._servicer, name)(message, None)


def account(tenant="acme", **kwargs):
    """One that a caller of this tenant pays from."""
    context = CallContext(tenant=tenant, principal="k1", permissions=("*",))
    return Account(context=context, **kwargs)


def wish(output_tokens, *, price=DOLLAR, least=None, input_tokens=0):
    """A call that may write so many tokens, a dollar each; it needs all of them."""
    return Wish(
        model="openai/gpt",
        price=price,
        input_tokens=input_tokens,
        output_tokens_max=output_tokens,
        output_tokens_min=output_tokens if least is None else least,
    )


def ledger(state, clock, lane=""):
    """A process's."""
    return Ledger(state, clock, lane=lane)
