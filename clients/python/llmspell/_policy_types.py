"""What is given and got about policies. `types` has it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from llmspell.v1.types_pb2 import Filter as FilterMessage

CrossSession: TypeAlias = Literal["all", "read", "own"]
"""Which sessions a call that works in one may touch beside it."""
PolicyOutcome: TypeAlias = Literal["allow", "deny", "allow_with_filters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What callers may do, beyond what their roles say."""

    tenant_id: str
    """Or `*`, for each."""
    subject: str
    """`*`, `role:writer` or `key:ID`."""
    allow: Sequence[str]
    """Operations: permissions, methods, with a star at the end, or `*`."""
    deny: Sequence[str] = ()
    scopes: Sequence[str] = ()
    """`global`, `user:alice`, `session:*`; none: all."""
    denied_scopes: Sequence[str] = ()
    row_filter: Mapping[str, Any] | FilterMessage | None = None
    """Records that do not match do not exist; as in searches. What comes back is the message."""
    max_dimension: int = 0
    """0: any."""
    cross_session: CrossSession = "all"
    description: str = ""
    version: int = 0
    """Set by the server, as what follows."""
    create_time: datetime | None = None
    author: str = ""
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class PolicyVerdict:
    """What would be decided of a call."""

    decision: PolicyOutcome
    reason: str
    """Why it would be refused: the policy and its rule."""
    policies: tuple[str, ...]
    """Those that are about the caller, with their versions."""
    row_filter: FilterMessage | None
