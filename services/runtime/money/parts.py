"""The parts of money in this process, put together."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf.message import Message
from llmspell.v1 import usage_pb2_grpc

from services.common.clock import Clock
from services.common.errors import Reason, ServiceError
from services.common.settings import Settings
from services.common.standing import LooksUp
from services.runtime.bridge import Own
from services.runtime.money.ledger import Ledger
from services.runtime.money.metered import FindsProviders, Metered
from services.runtime.money.prices import Prices, read_prices
from services.runtime.money.rates import TokenRates
from services.runtime.money.shelf import Calls
from services.runtime.servicers.usage import UsageServicer

_TENANT_USAGE = "/llmspell.v1.UsageService/GetTenantUsage"
_CREATE_TENANT = "/llmspell.v1.TenantService/CreateTenant"
_ESTIMATE = "/llmspell.v1.UsageService/EstimateCost"


@dataclass(frozen=True, slots=True)
class MoneyParts:
    """Prices, and the ledger."""

    prices: Prices
    ledger: Ledger
    clock: Clock
    own: Own
    """Finds agents and workflows."""
    embedding_model: str
    """That which ingests where a request names none, as `provider/model`."""
    rates: TokenRates
    calls: Calls
    """To other processes."""
    tenants: LooksUp
    """What the operator says of each."""

    @classmethod
    def build(
        cls, settings: Settings, calls: Calls, clock: Clock, own: Own, tenants: LooksUp
    ) -> MoneyParts:
        """Read the operator's prices.

        Args:
            settings: All of them.
            calls: To the state process.
            clock: What time it is.
            own: What this process answers itself; it may fill later.
            tenants: What the operator lets each of them spend and take.

        Raises:
            ServiceError: CONFIG_INVALID.
        """
        prices = Prices(clock, own=read_prices(settings.runtime.prices_file))
        vector = settings.vector
        model = vector.openai_model if vector.embedding_provider == "openai" else "embedding"
        default = settings.quotas.tokens_per_minute

        async def tokens_per_minute(tenant: str) -> int:
            record = await tenants.get(tenant)
            return (record.limits.tokens_per_minute if record else 0) or default

        ledger, rates = Ledger(calls, clock, tenants=tenants), TokenRates(tokens_per_minute)
        embedding = f"{vector.embedding_provider}/{model}"
        return cls(prices, ledger, clock, own, embedding, rates, calls, tenants)

    def metered(self, providers: FindsProviders) -> Metered:
        """What asks models."""
        return Metered(providers, self.ledger, self.prices, self.clock, rates=self.rates)

    def register(self, server: grpc.aio.Server) -> Own:
        """Serve UsageService; of it scripts may ask what something would cost, and of usage."""
        model = self.embedding_model
        usage = UsageServicer(
            self.ledger,
            self.prices,
            self.clock,
            own=self.own,
            embedding_model=model,
            calls=self.calls,
            tenants=self.tenants,
        )
        usage_pb2_grpc.add_UsageServiceServicer_to_server(usage, server)
        return {
            _ESTIMATE: usage.EstimateCost,
            _TENANT_USAGE: usage.GetTenantUsage,
            _CREATE_TENANT: _create_tenant,
        }

    async def close(self) -> None:
        """Write what is not written."""
        await self.ledger.close()


async def _create_tenant(request: Message, context: object) -> Message:
    """Scripts reach no gateway, where tenants are made; who may make none never comes this far."""
    del request, context
    raise ServiceError(
        Reason.NOT_IMPLEMENTED,
        "Tenants are made through the gateway: `llmspell tenant create`, or TenantService.",
    )
