"""ProviderService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from llmspell._contract import Call
from llmspell._provider_types import Model, ModelPull, Provider, ProviderTest
from llmspell._values import from_duration, from_timestamp, to_duration
from llmspell.v1 import provider_pb2 as pb

_ASKING_S = 60.0
"""Providers are asked for ten seconds at most, one model for a minute."""
_TESTING_S = 120.0
_PULL_S = 60.0
_MARGIN_S = 15.0
_PAGE_SIZE = 1000


class ModelPage(NamedTuple):
    """A page of models."""

    models: list[Model]
    silent_providers: Mapping[str, str]
    next_token: str


def list_providers() -> Call[list[Provider]]:
    """All of them."""
    return Call(
        pb.ListProvidersRequest(), lambda answer: [_provider(each) for each in answer.providers]
    )


def get_provider(name: str) -> Call[Provider]:
    """One of them."""
    return Call(pb.GetProviderRequest(name=name), lambda answer: _provider(answer.provider))


def test_provider(name: str, model: str) -> Call[ProviderTest]:
    """Ask one."""
    request = pb.TestProviderRequest(name=name, model=model)
    return Call(request, _test, timeout_s=_TESTING_S)


def list_models(provider: str, token: str, *, ask_providers: bool) -> Call[ModelPage]:
    """A page of models."""
    request = pb.ListModelsRequest(
        provider=provider, ask_providers=ask_providers, page_size=_PAGE_SIZE, page_token=token
    )
    return Call(request, _page, timeout_s=_ASKING_S)


def get_model(name: str) -> Call[Model]:
    """One model."""
    return Call(
        pb.GetModelRequest(name=name), lambda answer: _model(answer.model), timeout_s=_ASKING_S
    )


def pull_model(provider: str, model: str, wait_s: float | None) -> Call[ModelPull]:
    """Let a provider fetch a model."""
    request = pb.PullModelRequest(
        provider=provider, model=model, wait=to_duration(wait_s, "wait_s")
    )
    waits_s = _PULL_S if wait_s is None else max(wait_s, 0.0)
    return Call(request, _pull, timeout_s=waits_s + _MARGIN_S)


def _provider(message: pb.Provider) -> Provider:
    can = message.capabilities
    return Provider(
        name=message.name,
        kind=message.kind,
        enabled=message.enabled,
        disabled_reason=message.disabled_reason,
        base_url=message.base_url,
        local=can.local,
        streaming=can.streaming,
        multimodal=can.multimodal,
        tools=can.tools,
        json_schema=can.json_schema,
        max_context_tokens=can.max_context_tokens,
        available_models=tuple(can.available_models),
    )


def _test(answer: pb.TestProviderResponse) -> ProviderTest:
    return ProviderTest(
        ok=answer.ok,
        elapsed_s=from_duration(answer, "elapsed") or 0.0,
        reason=answer.reason,
        message=answer.message,
        model_count=answer.model_count,
        text=answer.text,
        version=answer.version,
    )


def _page(answer: pb.ListModelsResponse) -> ModelPage:
    models = [_model(each) for each in answer.models]
    return ModelPage(models, dict(answer.silent_providers), answer.next_page_token)


def _model(message: pb.Model) -> Model:
    def price(kind: str) -> float | None:
        name = f"{kind}_usd_per_million"
        return float(getattr(message, name)) if message.HasField(name) else None

    return Model(
        name=message.name,
        provider=message.provider,
        context_tokens=message.context_tokens,
        output_tokens=message.output_tokens,
        input_usd_per_million=price("input"),
        output_usd_per_million=price("output"),
        cached_usd_per_million=price("cached"),
        multimodal=message.multimodal,
        tools=message.tools,
        size_bytes=message.size_bytes,
        quantization=message.quantization,
        parameter_count=message.parameter_count,
        format=message.format,
        modified_time=from_timestamp(message, "modified_time"),
        loaded=message.loaded,
        available=message.available,
    )


def _pull(answer: pb.PullModelResponse) -> ModelPull:
    return ModelPull(
        status=answer.status,
        downloaded_bytes=answer.downloaded_bytes,
        total_bytes=answer.total_bytes,
        error=answer.error,
    )
