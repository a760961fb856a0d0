"""What the gateway writes into the audit log, which state keeps.

A call that manages something (whatever a writer's key may not do, and changes something) has an
entry before it is made and one before it is answered: where the log takes none, it is refused. A
gateway that is lost in between leaves the first. Of other calls, data writes and those that were
denied are written within a second, many at once; where they come faster than that, a gap with
their number is written.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass

import grpc
from google.protobuf.descriptor_pb2 import MethodOptions
from llmspell.v1 import audit_pb2

from services.common import failpoints
from services.common.access import METHODS, Method
from services.common.clock import Clock
from services.common.context import CallContext, is_tenant_id
from services.common.door import Arrival, End
from services.common.errors import Reason, ServiceError, reason_name
from services.common.limits import AUDIT_BATCH_MAX, AUDIT_QUEUE_MAX, AUDIT_WAIT_SECONDS
from services.common.relay import Relay
from services.common.scopes import SYSTEM_TENANT
from services.common.status import status_code
from services.gateway.audit_names import host_of, plain, resource_of, tenant_named
from services.gateway.keys import OPERATOR_ID
from services.gateway.roles import ROLES

log = logging.getLogger(__name__)

APPEND = METHODS["/llmspell.v1.AuditService/AppendAudit"]
_WRITER = CallContext(tenant=SYSTEM_TENANT, principal="gateway", permissions=("audit.append",))
_APPEND_S = 5.0
_PREFIX = "/llmspell.v1."
_READS = MethodOptions.NO_SIDE_EFFECTS
_OPERATORS = frozenset(
    {
        "llmspell.v1.TenantService",
        "llmspell.v1.IdentityService",
        "llmspell.v1.PolicyService",
    }
)
"""Services whose requests name a tenant."""
_DENIED = frozenset({grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED})
_LATER = frozenset(
    {
        Reason.SERVICE_UNAVAILABLE,
        Reason.STORAGE_FULL,
        Reason.DEADLINE_EXCEEDED,
        Reason.OVERLOADED,
    }
)
"""Reasons for which entries are kept and sent again."""

_Entry = audit_pb2.AuditEntry
FindTenant = Callable[[str], Awaitable[object | None]]
"""A tenant that is there, else None."""


def changes(method: Method) -> bool:
    """Whether a method may change something."""
    return bool(method.descriptor.GetOptions().idempotency_level != _READS)


def manages(method: Method) -> bool:
    """Whether it is more than use of one's own data: it changes what a writer may not."""
    return changes(method) and method.permission not in ROLES["writer"]


_CHANGES = frozenset(path for path, method in METHODS.items() if changes(method))
_MANAGES = frozenset(path for path, method in METHODS.items() if manages(method))


@dataclass(slots=True)
class _Waiting:
    """Calls that share an entry."""

    entry: _Entry
    elapsed_s: float


class Audit:
    """Writes entries: `place` around calls that manage, `observe` of all others."""

    def __init__(self, relay: Relay, clock: Clock, *, tenant: FindTenant, reads: bool) -> None:
        """`reads`: whether calls that change nothing are written too."""
        self._relay = relay
        self._clock = clock
        self._tenant = tenant
        self._reads = reads
        self._gateway = secrets.token_hex(4)
        self._waiting: dict[tuple[str, ...], _Waiting] = {}
        self._sending: list[_Entry] = [self._mark(audit_pb2.AUDIT_KIND_START)]
        self._missed = 0
        self._wake = asyncio.Event()
        self._is_behind = False

    @property
    def lag_count(self) -> int:
        """Entries that are not written yet."""
        return len(self._waiting) + len(self._sending)

    def place(self, arrival: Arrival) -> AbstractAsyncContextManager[None]:
        """Stands around calls that manage something; see `common.door.Place`."""
        if arrival.path in _MANAGES:
            return self._managed(arrival)
        return nullcontext()

    def observe(self, arrival: Arrival, end: End) -> None:
        """Note a call that has ended; see `common.door.Observer`."""
        if arrival.is_audited or arrival.method is None:
            return
        error = end.error
        denied = error is not None and status_code(error.reason) in _DENIED
        if denied or arrival.path in _CHANGES or self._wants_read(arrival.context):
            self._note(arrival, end)

    async def run(self) -> None:
        """Send what waits, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(AUDIT_WAIT_SECONDS):
                    await self._wake.wait()
                await asyncio.sleep(AUDIT_WAIT_SECONDS / 100)
            self._wake.clear()
            await self._send_waiting()

    async def close(self) -> None:
        """Send what waits, and that this gateway ends."""
        while await self._send_waiting() and self._waiting:
            pass
        with suppress(ServiceError):
            if not (self._sending or self._waiting):
                await self._append([self._mark(audit_pb2.AUDIT_KIND_STOP)])

    def _wants_read(self, context: CallContext | None) -> bool:
        if context is None:
            return False
        return self._reads or (context.principal == OPERATOR_ID and bool(context.tenant))

    @asynccontextmanager
    async def _managed(self, arrival: Arrival) -> AsyncIterator[None]:
        """An entry before the call is made, and one before it is answered."""
        arrival.is_audited = True
        await self._write(self._entry(arrival, audit_pb2.AUDIT_KIND_INTENT), done=False)
        try:
            yield
        except asyncio.CancelledError:
            self._queue(self._outcome(arrival, "CANCELLED"))  # its caller does not wait for it
            raise
        except ServiceError as error:
            outcome = self._outcome(arrival, reason_name(error.reason))
            outcome.decision = _decision(arrival, error)
            await self._write_or_queue(outcome)
            raise
        except Exception:
            await self._write_or_queue(self._outcome(arrival, reason_name(Reason.INTERNAL)))
            raise
        failpoints.hit("audit.changed")
        outcome = self._outcome(arrival, "")
        try:
            await self._write(outcome, done=True)
        except ServiceError:
            self._queue(outcome)
            raise

    async def _write(self, entry: _Entry, *, done: bool) -> None:
        """Write an entry that a call waits for.

        Raises:
            ServiceError: AUDIT_UNAVAILABLE.
        """
        try:
            await self._append([entry], urgent=True)
        except ServiceError as error:
            raise _unavailable(error, done=done) from None

    async def _write_or_queue(self, entry: _Entry) -> None:
        """Write how a call has failed: its caller learns of that whatever becomes of the entry."""
        try:
            await self._append([entry], urgent=True)
        except ServiceError:
            self._queue(entry)

    def _outcome(self, arrival: Arrival, reason: str) -> _Entry:
        entry = self._entry(arrival, audit_pb2.AUDIT_KIND_OUTCOME)
        entry.reason = reason
        entry.decision = _decision(arrival, None)
        elapsed_s = self._clock.monotonic() - arrival.begin_s
        entry.elapsed.FromNanoseconds(round(elapsed_s * 1e9))
        return entry

    def _entry(self, arrival: Arrival, kind: audit_pb2.AuditKind) -> _Entry:
        assert arrival.method is not None
        context = arrival.context
        entry = self._mark(kind)
        entry.request_id = plain(arrival.request_id)
        entry.method = arrival.path.removeprefix(_PREFIX)
        entry.resource = resource_of(arrival.method, arrival.message)
        entry.peer = host_of(arrival.peer)
        if context is not None:
            entry.principal = plain(context.principal)
            entry.tenant_id = context.tenant
        if arrival.method.service in _OPERATORS and context is not None and context.any_tenant:
            named = tenant_named(arrival.method, arrival.message)
            entry.tenant_id = named if is_tenant_id(named) else ""
        return entry

    def _mark(self, kind: audit_pb2.AuditKind) -> _Entry:
        entry = _Entry(kind=kind, gateway=self._gateway, call_count=1)
        entry.event_time.FromNanoseconds(self._clock.now_ns())
        return entry

    def _note(self, arrival: Arrival, end: End) -> None:
        """Let a call share the entry of those that are like it, or wait as a new one."""
        error = end.error
        reason = "CANCELLED" if end.is_cancelled else reason_name(error.reason) if error else ""
        context = arrival.context
        who = (context.tenant, context.principal) if context else ("", "")
        key = (*who, arrival.path, reason, arrival.peer.rpartition(":")[0], _names(arrival))
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.entry.call_count += 1
            waiting.elapsed_s += end.elapsed_s
            return
        if len(self._waiting) + len(self._sending) >= AUDIT_QUEUE_MAX:
            self._missed += 1
            return
        entry = self._entry(arrival, audit_pb2.AUDIT_KIND_CALL)
        entry.reason, entry.decision = reason, _decision(arrival, error)
        self._waiting[key] = _Waiting(entry, end.elapsed_s)
        if len(self._waiting) >= AUDIT_BATCH_MAX:
            self._wake.set()

    def _queue(self, entry: _Entry) -> None:
        """An entry that shares with none; these are few, and always taken."""
        self._waiting[(secrets.token_hex(8),)] = _Waiting(
            entry, entry.elapsed.ToNanoseconds() / 1e9
        )

    async def _send_waiting(self) -> bool:
        """Send what waits, a batch at a time; whether the log took all of it."""
        while self._sending or self._waiting or self._missed:
            if not self._sending:
                self._fill()
            try:
                await self._forget_ended(self._sending)
                await self._append(self._sending)
            except ServiceError as error:
                if not self._given_up(error):
                    return False
            self._sending = []
        if self._is_behind:
            self._is_behind = False
            log.info("the audit log takes entries again")
        return True

    def _fill(self) -> None:
        """Take the next batch from what waits; what is missing is told behind it."""
        for key in list(self._waiting)[: AUDIT_BATCH_MAX - 1]:
            waiting = self._waiting.pop(key)
            waiting.entry.elapsed.FromNanoseconds(round(waiting.elapsed_s * 1e9))
            self._sending.append(waiting.entry)
        if self._missed:
            gap = self._mark(audit_pb2.AUDIT_KIND_GAP)
            gap.call_count, self._missed = self._missed, 0
            self._sending.append(gap)

    async def _forget_ended(self, entries: Sequence[_Entry]) -> None:
        """Leave out what was named by calls of tenants that are gone: it was erased with them."""
        for tenant in {entry.tenant_id for entry in entries if entry.resource}:
            if tenant and await self._tenant(tenant) is None:
                for entry in entries:
                    if entry.tenant_id == tenant:
                        entry.resource = ""

    def _given_up(self, error: ServiceError) -> bool:
        """Whether a batch will never be taken; then its calls are a gap."""
        if error.reason in _LATER:
            if not self._is_behind:
                self._is_behind = True
                why = reason_name(error.reason)
                log.warning("the audit log takes no entries; they wait", extra={"why": why})
            return False
        self._missed += sum(entry.call_count for entry in self._sending)
        log.error("entries were refused by the audit log", extra={"why": error.message})
        return True

    async def _append(self, entries: Sequence[_Entry], *, urgent: bool = False) -> None:
        request = audit_pb2.AppendAuditRequest(entries=entries, urgent=urgent)
        await self._relay.call(APPEND, request.SerializeToString(), _WRITER, timeout_s=_APPEND_S)


def _names(arrival: Arrival) -> str:
    assert arrival.method is not None
    return resource_of(arrival.method, arrival.message) if arrival.message else ""


def _decision(arrival: Arrival, error: ServiceError | None) -> audit_pb2.AuditDecision:
    if error is not None and status_code(error.reason) in _DENIED:
        return audit_pb2.AUDIT_DECISION_DENIED
    if arrival.context is not None and arrival.context.row_filter:
        return audit_pb2.AUDIT_DECISION_FILTERED
    return audit_pb2.AUDIT_DECISION_ALLOWED


def _unavailable(error: ServiceError, *, done: bool) -> ServiceError:
    why = reason_name(error.reason)
    text = f"Nothing was changed: it could not be written to the audit log first ({why})."
    if done:
        text = f"The change was made, but the audit log did not take its outcome ({why})."
    return ServiceError(Reason.AUDIT_UNAVAILABLE, text, done=str(done).lower(), why=why)
