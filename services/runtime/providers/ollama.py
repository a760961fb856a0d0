"""Ollama: OpenAI's protocol for chats, and its own for the models that are on its disk."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from services.common.limits import PROVIDER_LIST_SECONDS_MAX, PROVIDER_PULL_SECONDS_MAX
from services.runtime.providers import failures
from services.runtime.providers.failures import AttemptError
from services.runtime.providers.model import ModelFacts
from services.runtime.providers.openai import OpenAIProvider
from services.runtime.providers.pulls import Progress
from services.runtime.providers.retry import Tries
from services.runtime.providers.sse import lines

_MODELS_MAX = 10_000


class OllamaProvider(OpenAIProvider):
    """An Ollama server."""

    async def models(self) -> Sequence[ModelFacts]:
        """Models on its disk, in order of name, and which of them are in memory."""
        tries = Tries(self.name, PROVIDER_LIST_SECONDS_MAX, attempts_max=2)
        listed = await tries.run(lambda: self.get(self._own("/api/tags")))
        loaded: set[str] = set()
        with contextlib.suppress(AttemptError):
            running = await self.get(self._own("/api/ps"))
            loaded = {_text(one.get("name")) for one in _entries(running)}
        found = [_facts(one, loaded) for one in _entries(listed)]
        return sorted((one for one in found if one.name), key=lambda one: one.name)

    async def facts(self, model: str) -> ModelFacts | None:
        """One of its models, with the length of its context; None where it has none such."""
        known = {one.name: one for one in await self.models()}
        found = known.get(model) or known.get(f"{model}:latest")
        if found is None:
            return None
        with contextlib.suppress(AttemptError):
            return _shown(found, await self._show(found.name))
        return found

    async def version(self) -> str:
        """Its version; empty where it does not tell."""
        with contextlib.suppress(AttemptError):
            answer = await self.get(self._own("/api/version"))
            return _text(_mapping(answer).get("version"))
        return ""

    async def pull(self, model: str, tell: Callable[[Progress], None]) -> None:
        """Let it fetch a model, and tell how far that is until it is there or fails.

        Raises:
            ServiceError: PROVIDER_UNAVAILABLE, MODEL_NOT_FOUND and so on.
        """
        tries = Tries(self.name, PROVIDER_PULL_SECONDS_MAX, attempts_max=1)
        with self.under_way():
            await tries.run(lambda: self._pull(model, tell))

    async def _pull(self, model: str, tell: Callable[[Progress], None]) -> None:
        body, path = {"model": model, "stream": True}, self._own("/api/pull")
        async with self.post(
            path, body, timeout_s=PROVIDER_PULL_SECONDS_MAX, model=model
        ) as response:
            await self._follow(response.aiter_bytes(), tell)

    async def _follow(self, pieces: AsyncIterator[bytes], tell: Callable[[Progress], None]) -> None:
        ended = False
        async with contextlib.aclosing(lines(pieces)) as coming:
            async for line in coming:
                progress = _progress(line)
                if progress is not None:
                    tell(progress)
                    ended = ended or bool(progress.error) or progress.status == "success"
        if not ended:
            raise failures.unreachable(self.name, "broke off while it fetched the model")

    async def _show(self, model: str) -> Any:
        path, timeout_s = self._own("/api/show"), PROVIDER_LIST_SECONDS_MAX
        async with self.post(path, {"model": model}, timeout_s=timeout_s) as response:
            try:
                return json.loads(await response.aread())
            except (ValueError, RecursionError):
                return {}

    def _own(self, path: str) -> str:
        """An address of its own protocol, beside `/v1`."""
        return self.base_url.removesuffix("/v1") + path


def _facts(model: Mapping[str, Any], loaded: set[str]) -> ModelFacts:
    details = _mapping(model.get("details"))
    name = _text(model.get("name")) or _text(model.get("model"))
    return ModelFacts(
        name=name,
        size_bytes=_count(model.get("size")),
        quantization=_text(details.get("quantization_level")),
        parameter_count=_text(details.get("parameter_size")),
        format=_text(details.get("format")),
        modified_time_s=_time_s(model.get("modified_at")),
        loaded=name in loaded,
        available=True,
    )


def _shown(found: ModelFacts, told: Any) -> ModelFacts:
    """With what `/api/show` tells: `llama.context_length` and so on, and what the model can."""
    facts = _mapping(_mapping(told).get("model_info"))
    lengths = (value for name, value in facts.items() if str(name).endswith(".context_length"))
    can = _mapping(told).get("capabilities")
    able = can if isinstance(can, list) else []
    return replace(
        found,
        context_tokens=_count(next(lengths, 0)),
        multimodal="vision" in able,
        tools="tools" in able,
    )


def _progress(line: bytes) -> Progress | None:
    try:
        told = _mapping(json.loads(line))
    except (ValueError, RecursionError):
        return None
    return Progress(
        status="error" if told.get("error") else _text(told.get("status")),
        completed_bytes=_count(told.get("completed")),
        total_bytes=_count(told.get("total")),
        error=_text(told.get("error")),
    )


def _entries(answer: Any) -> list[Mapping[str, Any]]:
    listed = _mapping(answer).get("models")
    entries = listed[:_MODELS_MAX] if isinstance(listed, list) else []
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _time_s(value: Any) -> float:
    try:
        return datetime.fromisoformat(_text(value)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 < value < 2**63 else 0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value[:256] if isinstance(value, str) else ""
