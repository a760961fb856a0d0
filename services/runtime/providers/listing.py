"""What servers tell of their models at `/models`, of which only the name is common to all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.runtime.providers.model import ModelFacts

_CONTEXT = (
    "context_length",  # OpenRouter, Together
    "context_window",  # Groq
    "max_context_length",  # Mistral
    "max_model_len",  # vLLM
    "input_token_limit",  # Gemini
)
_OUTPUT = ("max_completion_tokens", "max_output_tokens", "output_token_limit")
_MODELS_MAX = 10_000
_NAME_LENGTH_MAX = 256


def models(body: Any) -> list[ModelFacts]:
    """The models in an answer, in order of name; what cannot be read is passed over."""
    listed = body.get("data") if isinstance(body, Mapping) else body  # Together has a bare list
    if not isinstance(listed, list):
        return []
    found = {}
    for told in listed[:_MODELS_MAX]:
        name = told.get("id") if isinstance(told, Mapping) else None
        if isinstance(name, str) and name:
            bare = name.removeprefix("models/")[:_NAME_LENGTH_MAX]  # Gemini
            found[bare] = _facts(bare, told)
    return [found[name] for name in sorted(found)]


def _facts(name: str, told: Mapping[str, Any]) -> ModelFacts:
    meta = _mapping(told.get("meta"))  # llama.cpp
    top = _mapping(told.get("top_provider"))  # OpenRouter
    can = _mapping(told.get("capabilities"))  # Mistral
    parameters = told.get("supported_parameters")  # OpenRouter
    architecture = _mapping(told.get("architecture"))
    return ModelFacts(
        name=name,
        context_tokens=_first(told, _CONTEXT) or _first(meta, ("n_ctx", "n_ctx_train")),
        output_tokens=_first(told, _OUTPUT) or _first(top, _OUTPUT),
        multimodal="image" in str(architecture.get("input_modalities", ""))
        or can.get("vision") is True,
        tools=(isinstance(parameters, list) and "tools" in parameters)
        or can.get("function_calling") is True,
        size_bytes=_count(meta.get("size")),
        quantization=str(meta.get("ftype", ""))[:64],
        parameter_count=_short(_count(meta.get("n_params"))),
        format="gguf" if meta else "",
        loaded=bool(meta),
        available=True,
    )


def _first(told: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next((count for count in (_count(told.get(name)) for name in names) if count), 0)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 < value < 2**53 else 0


def _short(count: int) -> str:
    """Such as `135M`."""
    for unit, letter in ((10**9, "B"), (10**6, "M")):
        if count >= unit:
            return f"{count / unit:.3g}{letter}"
    return str(count) if count else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
