"""ProviderService: what there is of providers and their models, for callers and scripts alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from llmspell.v1 import provider_pb2 as pb
from llmspell.v1 import provider_pb2_grpc

from services.common.context import current_context
from services.common.errors import Reason, ServiceError, field_invalid, reason_name, required
from services.common.limits import DEADLINE_SECONDS_MAX, PROVIDER_LIST_SECONDS_MAX
from services.common.paging import PageTokens, page_size
from services.runtime.bridge import Own, own_methods
from services.runtime.money.model import FREE, Account, Price, Spent
from services.runtime.providers.model import ChatAnswer, ChatRequest, Message, ModelFacts, Role
from services.runtime.providers.presets import Place
from services.runtime.providers.pulls import Pulls
from services.runtime.providers.registry import Providers

PROVIDER_SERVICE = "llmspell.v1.ProviderService"
_PULL_SECONDS = 60.0
_TEST_SECONDS = 60.0
_TEST_TOKENS = 16
_SAID_MAX = 1000
"""Characters of what a model says to a test."""


class Asks(Protocol):
    """Asks a model at somebody's expense; `money.metered.Metered` does."""

    async def chat(
        self, account: Account, model: str, request: ChatRequest
    ) -> tuple[ChatAnswer, Spent]:
        """Its answer, and what that took."""


PriceOf = Callable[[str, str], Price | None]
"""A provider and a model → what it costs; None: not known."""


class ProviderServicer(provider_pb2_grpc.ProviderServiceServicer):
    """Answers from the providers of this process."""

    def __init__(
        self,
        providers: Providers,
        asks: Asks,
        page_tokens: PageTokens,
        price_of: PriceOf,
    ) -> None:
        """Make it.

        Args:
            providers: Those that there are.
            asks: Asks a model at somebody's expense.
            page_tokens: Seals tokens of pages.
            price_of: What a model costs.
        """
        self._asks = asks
        self._providers = providers
        self._pulls = Pulls()
        self._page_tokens = page_tokens
        self._price_of = price_of

    def register(self, server: grpc.aio.Server) -> Own:
        """Serve, and give what scripts may call."""
        provider_pb2_grpc.add_ProviderServiceServicer_to_server(self, server)
        return own_methods(PROVIDER_SERVICE, self)

    async def close(self) -> None:
        """Break off what is under way beside calls."""
        await self._pulls.close()

    async def ListProviders(  # noqa: N802  (the contract's name)
        self, request: pb.ListProvidersRequest, context: object
    ) -> pb.ListProvidersResponse:
        """All of them."""
        del request, context
        places = self._providers.places(current_context().tenant)
        return pb.ListProvidersResponse(providers=[await self._provider(one) for one in places])

    async def GetProvider(  # noqa: N802
        self, request: pb.GetProviderRequest, context: object
    ) -> pb.GetProviderResponse:
        """One of them."""
        del context
        place = self._place(request.name, "name")
        return pb.GetProviderResponse(provider=await self._provider(place))

    async def TestProvider(  # noqa: N802
        self, request: pb.TestProviderRequest, context: object
    ) -> pb.TestProviderResponse:
        """Ask one for its models, and a model for a word."""
        del context
        place = self._place(request.name, "name")
        begin, answer = time.monotonic(), pb.TestProviderResponse(ok=True)
        try:
            await self._test(place, request.model, answer)
        except ServiceError as error:
            answer.ok = False
            answer.reason, answer.message = reason_name(error.reason), error.message
        answer.elapsed.FromMicroseconds(round((time.monotonic() - begin) * 1e6))
        return answer

    async def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: object
    ) -> pb.ListModelsResponse:
        """A page of models."""
        del context
        tenant = current_context().tenant
        bound_to = f"ListModels\0{tenant}\0{request.provider}"
        after = ""
        if request.page_token:
            after = self._page_tokens.open(request.page_token, bound_to).decode()
        places = self._providers.places(tenant)
        if request.provider:
            places = [self._place(request.provider, "provider")]
        silent: Mapping[str, str] = {}
        if request.ask_providers and not after:
            silent = await self._ask_all(places, tenant)
        return await self._page(places, after, page_size(request.page_size), bound_to, silent)

    async def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, context: object
    ) -> pb.GetModelResponse:
        """One model."""
        del context
        if not request.name:
            raise required("name")
        provider, name = self._providers.split(request.name)
        place = self._place(provider, "name")
        facts = await self._facts(place, name)
        if facts is None:
            text = f"The provider {provider} has no model {name[:100]}, as far as is known."
            raise ServiceError(Reason.MODEL_NOT_FOUND, text, provider=provider, model=name[:100])
        return pb.GetModelResponse(model=self._model(place, facts))

    async def PullModel(  # noqa: N802
        self, request: pb.PullModelRequest, context: object
    ) -> pb.PullModelResponse:
        """Let a provider fetch a model."""
        del context
        place = self._place(request.provider, "provider")
        if not request.model:
            raise required("model")
        provider: Any = await self._providers.get(place.name, current_context().tenant)
        if not hasattr(provider, "pull"):
            text = f"The provider {place.name} cannot be told to fetch a model."
            raise ServiceError(Reason.NOT_IMPLEMENTED, text, provider=place.name)
        done = await self._pulls.pull(provider, request.model, wait_s=_wait_s(request))
        return pb.PullModelResponse(
            status=done.status,
            downloaded_bytes=done.completed_bytes,
            total_bytes=done.total_bytes,
            error=done.error,
        )

    def _place(self, name: str, field: str) -> Place:
        if not name:
            raise required(field)
        return self._providers.place(name, current_context().tenant)

    async def _provider(self, place: Place) -> pb.Provider:
        tenant = current_context().tenant
        why_not = self._providers.why_not(place, tenant)
        known = {} if why_not else await self._providers.known.all(place, tenant)
        can = place.capabilities
        return pb.Provider(
            name=place.name,
            kind=place.kind,
            enabled=not why_not,
            disabled_reason=why_not,
            base_url=place.base_url,
            capabilities=pb.ProviderCapabilities(
                streaming=can.streaming,
                multimodal=can.multimodal,
                tools=can.tools,
                json_schema=can.json_schema,
                local=can.local,
                max_context_tokens=max((one.context_tokens for one in known.values()), default=0),
                available_models=sorted(known),
            ),
        )

    def _model(self, place: Place, facts: ModelFacts) -> pb.Model:
        model = pb.Model(
            name=f"{place.name}/{facts.name}",
            provider=place.name,
            context_tokens=facts.context_tokens,
            output_tokens=facts.output_tokens,
            multimodal=facts.multimodal,
            tools=facts.tools,
            size_bytes=facts.size_bytes,
            quantization=facts.quantization,
            parameter_count=facts.parameter_count,
            format=facts.format,
            loaded=facts.loaded,
            available=facts.available,
        )
        if facts.modified_time_s:
            at = Timestamp()
            at.FromNanoseconds(round(facts.modified_time_s * 1e9))
            model.modified_time.CopyFrom(at)
        price = self._price_of(place.name, facts.name)
        if price is None and place.capabilities.local:
            price = FREE
        if price is not None:
            model.input_usd_per_million = price.input_usd
            model.output_usd_per_million = price.output_usd
            if price.cached_usd is not None:
                model.cached_usd_per_million = price.cached_usd
        return model

    async def _page(
        self,
        places: list[Place],
        after: str,
        count: int,
        bound_to: str,
        silent: Mapping[str, str],
    ) -> pb.ListModelsResponse:
        tenant = current_context().tenant
        found = {
            f"{place.name}/{name}": (place, facts)
            for place in places
            if not self._providers.why_not(place, tenant)
            for name, facts in (await self._providers.known.all(place, tenant)).items()
        }
        later = sorted(name for name in found if name > after)
        page = later[:count]
        token = ""
        if len(page) < len(later):
            token = self._page_tokens.seal(bound_to, page[-1].encode())
        return pb.ListModelsResponse(
            models=[self._model(*found[name]) for name in page],
            silent_providers=silent,
            next_page_token=token,
        )

    async def _ask_all(self, places: list[Place], tenant: str) -> dict[str, str]:
        """Ask providers at the same time; those that do not tell, each with a reason."""
        asked = [place for place in places if not self._providers.why_not(place, tenant)]
        failed = await asyncio.gather(*(self._ask(place, tenant) for place in asked))
        return {
            place.name: reason_name(error.reason)
            for place, error in zip(asked, failed, strict=True)
            if error is not None
        }

    async def _ask(self, place: Place, tenant: str) -> ServiceError | None:
        try:
            provider = await self._providers.get(place.name, tenant)
            self._providers.known.learn(place, tenant, await provider.models())
        except ServiceError as error:
            return error
        return None

    async def _facts(self, place: Place, name: str) -> ModelFacts | None:
        """What is known of a model: from its provider now, from before, or from the package."""
        tenant = current_context().tenant
        if not self._providers.why_not(place, tenant):
            failed = await self._ask(place, tenant)
            found = None if failed else await self._more(place, name)
            if found is not None:
                return found
        return await self._providers.known.one(place, tenant, name)

    async def _more(self, place: Place, name: str) -> ModelFacts | None:
        """What a provider tells of one model only when it is asked for it."""
        provider: Any = await self._providers.get(place.name, current_context().tenant)
        if not hasattr(provider, "facts"):
            return None
        found: ModelFacts | None = await provider.facts(name)
        return found

    async def _test(self, place: Place, model: str, answer: pb.TestProviderResponse) -> None:
        tenant = current_context().tenant
        provider: Any = await self._providers.get(place.name, tenant)
        models = await provider.models()
        self._providers.known.learn(place, tenant, models)
        answer.model_count = len(models)
        if hasattr(provider, "version"):
            answer.version = await provider.version()
        if model:
            name = model.removeprefix(f"{place.name}/")
            request = ChatRequest(
                model=name,
                messages=[Message(role=Role.USER, text="Say hello in one word.")],
                max_tokens=_TEST_TOKENS,
                timeout_s=_TEST_SECONDS,
            )
            account = Account(context=current_context())
            said, _ = await self._asks.chat(account, f"{place.name}/{name}", request)
            answer.text = said.text[:_SAID_MAX]


def _wait_s(request: pb.PullModelRequest) -> float:
    if not request.HasField("wait"):
        return _PULL_SECONDS
    wait: Duration = request.wait
    wait_s = float(wait.ToMicroseconds() / 1e6)
    if wait_s < 0:
        raise field_invalid("wait", "must not be negative")
    return min(wait_s, DEADLINE_SECONDS_MAX - PROVIDER_LIST_SECONDS_MAX)
