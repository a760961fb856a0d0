"""Providers that are known by name: where they are, and which variable has their key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.runtime.providers.asking import Lack
from services.runtime.providers.model import Capabilities

EVERYBODY: Final = "*"
KINDS: Final = ("openai", "anthropic", "scripted")

_HOSTED = Capabilities()
_LOCAL = Capabilities(local=True)
_TEXT_ONLY = Capabilities(multimodal=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A provider as this deployment has it."""

    name: str
    """As before the slash of a model."""
    kind: str = "openai"
    """The protocol that it speaks: `openai`, `anthropic`, or `scripted`, which speaks none."""
    base_url: str = ""
    """Empty: the operator has to say it."""
    key_variable: str = ""
    """Environment variable that has its key."""
    needs_key: bool = True
    enabled: bool = True
    """Whether it is offered without a table of its own in the operator's file."""
    own_api: str = ""
    """What it speaks beside: `ollama`."""
    capabilities: Capabilities = _HOSTED
    lacks: tuple[Lack, ...] = ()
    """What it is known not to take."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """That every request has beside its key."""
    models: tuple[str, ...] = ()
    """Those that the operator names."""
    tenants: frozenset[str] = frozenset({EVERYBODY})
    """Who may use it."""
    key: str = field(default="", repr=False)
    """For every tenant that has none of its own."""
    tenant_keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    def is_for(self, tenant: str) -> bool:
        """Whether a tenant may use it."""
        return bool(self.tenants & {tenant, EVERYBODY})

    def key_of(self, tenant: str) -> str:
        """The key that a tenant's calls are made with; empty: there is none."""
        return self.tenant_keys.get(tenant, self.key)

    def why_not(self, tenant: str) -> str:
        """Why a tenant cannot use it; empty where it can."""
        if not self.enabled:
            return "the operator does not enable it"
        if self.kind != "scripted" and not self.base_url:
            return "it has no base_url"
        if self.needs_key and not self.key_of(tenant):
            known = f"{self.key_variable} is not set" if self.key_variable else "none is configured"
            return f"it has no key: {known}"
        return ""


def _hosted(name: str, base_url: str, variable: str, **more: object) -> Place:
    return Place(name=name, base_url=base_url, key_variable=variable, **more)  # type: ignore[arg-type]


def _local(name: str, base_url: str, **more: object) -> Place:
    return Place(
        name=name,
        base_url=base_url,
        needs_key=False,
        capabilities=_LOCAL,
        **more,  # type: ignore[arg-type]
    )


_ALL = (
    _hosted(
        "openai",
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        lacks=(Lack.MAX_TOKENS,),
    ),
    _hosted("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY", kind="anthropic"),
    _hosted("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    _hosted("together", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    _hosted("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    _hosted("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    _hosted(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
    ),
    _hosted("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    _hosted(
        "perplexity",
        "https://api.perplexity.ai",
        "PERPLEXITY_API_KEY",
        capabilities=Capabilities(tools=False),
    ),
    _hosted("cohere", "https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY"),
    _hosted(
        "deepseek",
        "https://api.deepseek.com/v1",
        "DEEPSEEK_API_KEY",
        capabilities=_TEXT_ONLY,
        lacks=(Lack.JSON_SCHEMA,),
    ),
    _hosted("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
    # It has no address of its own for this protocol.
    _hosted("replicate", "", "REPLICATE_API_TOKEN"),
    _local("ollama", "http://127.0.0.1:11434/v1", own_api="ollama"),
    _local("llamacpp", "http://127.0.0.1:8080/v1", enabled=False),
    _local("vllm", "http://127.0.0.1:8000/v1", enabled=False),
    _local("lmstudio", "http://127.0.0.1:1234/v1", enabled=False),
    Place(
        name="scripted",
        kind="scripted",
        needs_key=False,
        capabilities=Capabilities(local=True),
    ),
)
PRESETS: Final[Mapping[str, Place]] = {place.name: place for place in _ALL}
"""By name. Those that have a key or need none are there without a line of configuration."""
