"""AuditService: arguments → requests, answers → values. No I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from llmspell._audit_types import AuditCheck, AuditDecision, AuditEntry, AuditHead, AuditKind
from llmspell._contract import Call, Page
from llmspell._values import from_duration, from_timestamp, to_timestamp
from llmspell.errors import InvalidArgument
from llmspell.v1 import audit_pb2 as pb

VERIFY_TIMEOUT_S = 300.0
"""It reads all of the log."""

_KIND, _DECISION, _FAULT = "AUDIT_KIND_", "AUDIT_DECISION_", "AUDIT_FAULT_"


def list_audit(
    *,
    principal: str,
    method: str,
    decision: AuditDecision | None,
    start_time: datetime | None,
    end_time: datetime | None,
) -> Call[Page[AuditEntry]]:
    """A page of entries, the newest first."""
    request = pb.ListAuditRequest(
        principal=principal,
        method=method,
        decision=_to_decision(decision),
        start_time=to_timestamp(start_time, "start_time"),
        end_time=to_timestamp(end_time, "end_time"),
    )
    return Call(request, _page)


def verify_audit(head: AuditHead | None) -> Call[AuditCheck]:
    """Whether the chain is whole."""
    return Call(pb.VerifyAuditRequest(head=_to_head(head)), _check, VERIFY_TIMEOUT_S)


def export_audit(*, after: int) -> Call[bytes | None]:
    """Lines of entries in order."""
    if not 0 <= after < 2**64:
        raise InvalidArgument("after must be a sequence.", metadata={"field": "after"})
    return Call(pb.ExportAuditRequest(after=after), lambda answer: answer.lines, VERIFY_TIMEOUT_S)


def _to_decision(decision: str | None) -> pb.AuditDecision:
    name = _DECISION + (decision or "unspecified").upper()
    if name not in pb.AuditDecision.keys():  # noqa: SIM118  (an enumeration is no mapping)
        raise InvalidArgument(
            "decision must be allowed, denied or filtered.", metadata={"field": "decision"}
        )
    return cast("pb.AuditDecision", pb.AuditDecision.Value(name))


def _to_head(head: AuditHead | None) -> pb.AuditHead | None:
    if head is None:
        return None
    try:
        return pb.AuditHead(sequence=head.sequence, hash=bytes.fromhex(head.hash))
    except ValueError:
        raise InvalidArgument(
            "head must have a sequence and a hexadecimal hash.", metadata={"field": "head"}
        ) from None


def _page(answer: pb.ListAuditResponse) -> Page[AuditEntry]:
    return Page([_entry(entry) for entry in answer.entries], answer.next_page_token)


def _entry(message: pb.AuditEntry) -> AuditEntry:
    decision = pb.AuditDecision.Name(message.decision).removeprefix(_DECISION).lower()
    return AuditEntry(
        sequence=message.sequence,
        time=from_timestamp(message, "event_time"),
        kind=cast("AuditKind", pb.AuditKind.Name(message.kind).removeprefix(_KIND).lower()),
        request_id=message.request_id,
        principal=message.principal,
        tenant_id=message.tenant_id,
        method=message.method,
        resource=message.resource,
        resource_erased=message.resource_erased,
        peer=message.peer,
        decision=cast("AuditDecision", decision) if message.decision else None,
        reason=message.reason,
        elapsed_s=from_duration(message, "elapsed") or 0.0,
        call_count=message.call_count,
        gateway=message.gateway,
        hash=message.hash.hex(),
    )


def _check(answer: Any) -> AuditCheck:
    fault = pb.AuditFault.Name(answer.fault).removeprefix(_FAULT).lower() if answer.fault else None
    return AuditCheck(
        fault=fault,
        fault_sequence=answer.fault_sequence if fault else None,
        entry_count=answer.entry_count,
        head=AuditHead(answer.head.sequence, answer.head.hash.hex()),
    )
