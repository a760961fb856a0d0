"""AuditService: messages to values, one call of the log, values to messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from llmspell.v1 import audit_pb2, audit_pb2_grpc

from services.common.audit_chain import HASH_BYTES, Decision, Entry, Head, Kind
from services.common.context import current_context
from services.common.errors import Reason, ServiceError, field_invalid, limit_exceeded
from services.common.limits import AUDIT_BATCH_MAX, AUDIT_TEXT_BYTES_MAX
from services.common.paging import PageTokens, page_size
from services.common.scopes import SYSTEM_TENANT
from services.state.audit import AuditLog, AuditQuery, Kept, NewEntry

_KIND, _DECISION, _FAULT = "AUDIT_KIND_", "AUDIT_DECISION_", "AUDIT_FAULT_"


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Answers from one log."""

    def __init__(self, log: AuditLog, page_tokens: PageTokens) -> None:
        self._log = log
        self._page_tokens = page_tokens

    async def AppendAudit(  # noqa: N802  (the contract's name)
        self, request: audit_pb2.AppendAuditRequest, context: object
    ) -> audit_pb2.AppendAuditResponse:
        """Add entries; the gateway's alone, whatever a caller may else."""
        del context
        if current_context().tenant != SYSTEM_TENANT:
            raise ServiceError(
                Reason.PERMISSION_DENIED,
                "Entries of the audit log are written by the gateway only.",
                permission="audit.append",
            )
        if len(request.entries) > AUDIT_BATCH_MAX:
            raise limit_exceeded("entries", len(request.entries), AUDIT_BATCH_MAX)
        entries = [_read_entry(entry) for entry in request.entries]
        head = await self._log.append(entries, urgent=request.urgent)
        return audit_pb2.AppendAuditResponse(head=_write_head(head))

    async def ListAudit(  # noqa: N802
        self, request: audit_pb2.ListAuditRequest, context: object
    ) -> audit_pb2.ListAuditResponse:
        """A page of entries, the newest first."""
        del context
        query = _read_query(request)
        limit = page_size(request.page_size)
        bound_to = f"ListAudit\0{query}"
        before = 0
        if request.page_token:
            before = int(self._page_tokens.open(request.page_token, bound_to))
        found, last = await self._log.list(query, before=before, limit=limit)
        answer = audit_pb2.ListAuditResponse(entries=map(_write_entry, found))
        if last:
            answer.next_page_token = self._page_tokens.seal(bound_to, str(last).encode())
        return answer

    async def VerifyAudit(  # noqa: N802
        self, request: audit_pb2.VerifyAuditRequest, context: object
    ) -> audit_pb2.VerifyAuditResponse:
        """Whether the chain is whole."""
        del context
        noted = _read_head(request.head) if request.HasField("head") else None
        verdict = await self._log.verify(noted)
        answer = audit_pb2.VerifyAuditResponse(
            entry_count=verdict.count, head=_write_head(verdict.head)
        )
        if verdict.finding is not None:
            fault = audit_pb2.AuditFault.Value(_FAULT + verdict.finding.fault.upper())
            answer.fault = cast("audit_pb2.AuditFault", fault)
            answer.fault_sequence = verdict.finding.sequence
        return answer

    async def ExportAudit(  # noqa: N802
        self, request: audit_pb2.ExportAuditRequest, context: object
    ) -> AsyncGenerator[audit_pb2.ExportAuditResponse, None]:
        """Lines of entries in order."""
        del context
        async with aclosing(self._log.export(_tenant(), after=request.after)) as chunks:
            async for lines in chunks:
                yield audit_pb2.ExportAuditResponse(lines=lines)


def _tenant() -> str:
    """Whose entries the caller sees; empty: all.

    Raises:
        ServiceError: PERMISSION_DENIED.
    """
    caller = current_context()
    if not caller.tenant and not caller.any_tenant:
        raise ServiceError(Reason.PERMISSION_DENIED, "All entries are the operator's alone to see.")
    return caller.tenant


def _read_query(request: audit_pb2.ListAuditRequest) -> AuditQuery:
    return AuditQuery(
        tenant=_tenant(),
        principal=request.principal,
        method=request.method,
        decision=_read_decision(request.decision),
        start_ns=request.start_time.ToNanoseconds(),
        end_ns=request.end_time.ToNanoseconds() if request.HasField("end_time") else None,
    )


def _read_decision(number: int) -> Decision:
    values = audit_pb2.AuditDecision.DESCRIPTOR.values_by_number
    if number not in values:
        raise field_invalid("decision", "must be ALLOWED, DENIED or FILTERED")
    word = values[number].name.removeprefix(_DECISION).lower()
    return cast("Decision", "" if number == 0 else word)


def _read_kind(number: int) -> Kind:
    values = audit_pb2.AuditKind.DESCRIPTOR.values_by_number
    if number == 0 or number not in values:
        raise field_invalid("kind", "must be set")
    return cast("Kind", values[number].name.removeprefix(_KIND).lower())


def _read_head(head: audit_pb2.AuditHead) -> Head:
    if len(head.hash) != HASH_BYTES:
        raise field_invalid("head.hash", f"must have {HASH_BYTES} bytes")
    return Head(head.sequence, head.hash)


def _read_entry(message: audit_pb2.AuditEntry) -> NewEntry:
    texts = (message.principal, message.tenant_id, message.method, message.resource, message.peer)
    for text in (*texts, message.request_id, message.reason, message.gateway):
        if len(text.encode()) > AUDIT_TEXT_BYTES_MAX or "\0" in text:
            raise field_invalid("entries", f"have a text over {AUDIT_TEXT_BYTES_MAX} bytes")
    entry = Entry(
        time_ns=message.event_time.ToNanoseconds(),
        kind=_read_kind(message.kind),
        gateway=message.gateway,
        request_id=message.request_id,
        principal=message.principal,
        tenant=message.tenant_id,
        method=message.method,
        peer=message.peer,
        decision=_read_decision(message.decision),
        reason=message.reason,
        elapsed_us=message.elapsed.ToMicroseconds(),
        calls=message.call_count or 1,
    )
    return NewEntry(entry, message.resource)


def _write_entry(kept: Kept) -> audit_pb2.AuditEntry:
    entry = kept.entry
    message = audit_pb2.AuditEntry(
        sequence=kept.link.sequence,
        kind=_KIND + entry.kind.upper(),
        request_id=entry.request_id,
        principal=entry.principal,
        tenant_id=entry.tenant,
        method=entry.method,
        resource=kept.named.resource,
        resource_erased=kept.is_erased,
        peer=entry.peer,
        reason=entry.reason,
        call_count=entry.calls,
        gateway=entry.gateway,
        previous_hash=kept.link.previous,
        hash=kept.link.hash,
    )
    if entry.decision:
        decision = audit_pb2.AuditDecision.Value(_DECISION + entry.decision.upper())
        message.decision = cast("audit_pb2.AuditDecision", decision)
    message.event_time.FromNanoseconds(entry.time_ns)
    message.elapsed.FromMicroseconds(entry.elapsed_us)
    return message


def _write_head(head: Head) -> audit_pb2.AuditHead:
    return audit_pb2.AuditHead(sequence=head.sequence, hash=head.hash)
