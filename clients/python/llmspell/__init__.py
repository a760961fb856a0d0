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
    from llmspell.errors import (
        AlreadyExists,
        Cancelled,
        Conflict,
        DataLoss,
        DeadlineExceeded,
        FailedPrecondition,
        Internal,
        InvalidArgument,
        LLMSpellError,
        NotFound,
        PermissionDenied,
        ResourceExhausted,
        Unauthenticated,
        Unavailable,
        Unimplemented,
    )
    from llmspell.types import (
        CheckItem,
        DeleteItem,
        Document,
        IncrementItem,
        Record,
        RunLimits,
        RunLog,
        RunMetrics,
        RunOutput,
        RunResult,
        RunStarted,
        SchemaField,
        SetItem,
    )

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "Cancelled",
    "CheckItem",
    "Client",
    "Conflict",
    "DataLoss",
    "DeadlineExceeded",
    "DeleteItem",
    "Document",
    "FailedPrecondition",
    "IncrementItem",
    "Internal",
    "InvalidArgument",
    "LLMSpellError",
    "NotFound",
    "PermissionDenied",
    "Record",
    "ResourceExhausted",
    "RunLimits",
    "RunLog",
    "RunMetrics",
    "RunOutput",
    "RunResult",
    "RunStarted",
    "SchemaField",
    "SetItem",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
]

_CLIENTS = {"AsyncClient": "aio", "Client": "client"}
_TYPES = frozenset(
    {
        "CheckItem",
        "DeleteItem",
        "IncrementItem",
        "Document",
        "Record",
        "RunLimits",
        "RunLog",
        "RunMetrics",
        "RunOutput",
        "RunResult",
        "RunStarted",
        "SchemaField",
        "SetItem",
    }
)


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that `import llmspell.v1` does not load grpc."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_home(name)}")
    value = getattr(home, name)
    globals()[name] = value
    return value


def _home(name: str) -> str:
    return _CLIENTS.get(name) or ("types" if name in _TYPES else "errors")


def __dir__() -> list[str]:
    return sorted(__all__)
