"""What is got about the audit log. `types` has it all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

AuditKind: TypeAlias = Literal["call", "intent", "outcome", "gap", "start", "stop"]
AuditDecision: TypeAlias = Literal["allowed", "denied", "filtered"]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An entry of the audit log."""

    sequence: int
    """Its place in the chain."""
    time: datetime | None
    """When the call began."""
    kind: AuditKind
    request_id: str
    principal: str
    """Public part of the key, or another name of whoever called."""
    tenant_id: str
    """Whose data; empty: nobody's."""
    method: str
    """Such as `StateService/SetState`."""
    resource: str
    """What the request named."""
    resource_erased: bool
    """Whether that was erased with its tenant."""
    peer: str
    """Where the call came from."""
    decision: AuditDecision | None
    reason: str
    """How it ended; empty where it was answered."""
    elapsed_s: float
    call_count: int
    """Of how many calls it is."""
    gateway: str
    hash: str
    """Hexadecimal, as are heads."""


@dataclass(frozen=True, slots=True)
class AuditHead:
    """A place in the chain; noted elsewhere, it finds out an end that was cut off."""

    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """What came of verifying the chain."""

    fault: str | None
    """What is wrong first, such as `altered`; None: the chain is whole."""
    fault_sequence: int | None
    entry_count: int
    """Entries that are whole, from the beginning."""
    head: AuditHead
