"""Client for LLMSpell: state, vectors, documents and scripts of one tenant, over gRPC.

    from llmspell import Client

    with Client() as client:
        client.set_state("greeting", {"text": "hello"})

`Client` blocks, `AsyncClient` is for asyncio; both offer the same methods. Errors are in
`llmspell.errors`, the generated messages in `llmspell.v1`. Nothing is loaded before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmspell.aio import AsyncClient
    from llmspell.client import Client
    from llmspell.errors import LLMSpellError
    from llmspell.types import (
        CheckItem,
        DeleteItem,
        Document,
        Record,
        RunLimits,
        RunOutput,
        RunResult,
        RunStarted,
        SetItem,
    )

__all__ = [
    "AsyncClient",
    "CheckItem",
    "Client",
    "DeleteItem",
    "Document",
    "LLMSpellError",
    "Record",
    "RunLimits",
    "RunOutput",
    "RunResult",
    "RunStarted",
    "SetItem",
]

_HOMES = {"AsyncClient": "aio", "Client": "client", "LLMSpellError": "errors"}


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that `import llmspell.v1` does not load grpc."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'types')}")
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
