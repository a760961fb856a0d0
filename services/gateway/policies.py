"""Policies as they are kept, and which of them apply to a caller.

They are items of the system tenant. All of them are held in memory, for each call needs those of
its tenant, its roles and its key. A stamp that every change moves is looked at twice a second, so
that a change holds in every gateway within a second. Until they were read for the first time, no
tenant's call is let through.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import msgspec
from llmspell.v1 import state_pb2
from llmspell.v1.types_pb2 import Filter

from services.common.access import Method
from services.common.clock import Clock
from services.common.context import CallContext
from services.common.door import Arrival
from services.common.errors import Reason, ServiceError
from services.common.limits import POLICIES_BYTES_MAX, POLICIES_MAX, POLICY_LOOK_SECONDS
from services.common.policy import ANY, Policy, Rules, operation_refusal, refusal
from services.common.relay import Relay
from services.common.tenants import SystemItems
from services.gateway.keys import OPERATOR_ID

log = logging.getLogger(__name__)

_SCOPE = "custom:policies"
_VERSIONS = "custom:policy-versions"
_STAMPS, _STAMP = "custom:policy-stamp", "stamp"
_PAGE = 1000


class PolicyRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A version of a policy as it is kept."""

    tenant: str
    subject: str
    version: int
    create_ns: int
    author: str
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    denied_scopes: tuple[str, ...] = ()
    row_filter: bytes = b""
    max_dimension: int = 0
    sessions: Literal["all", "read", "own"] = "all"
    description: str = ""
    deleted: bool = False

    @property
    def place(self) -> str:
        """Its key."""
        return f"{self.tenant}/{self.subject}"

    @property
    def name(self) -> str:
        """As refusals name it."""
        return f"{self.place}@{self.version}"

    @property
    def size(self) -> int:
        """Bytes of its patterns and its filter."""
        patterns = (*self.allow, *self.deny, *self.scopes, *self.denied_scopes)
        return sum(map(len, patterns)) + len(self.row_filter)

    @property
    def rules(self) -> Rules:
        """As it travels with calls."""
        return Rules(
            self.name,
            self.allow,
            self.deny,
            self.scopes or (ANY,),
            self.denied_scopes,
            self.max_dimension,
            self.sessions,
        )


class Applying(msgspec.Struct, frozen=True):
    """What applies to a caller."""

    policy: Policy = ()
    row_filters: tuple[bytes, ...] = ()

    size: int = 0
    """Bytes of patterns and filters, which travel with each call."""

    def row_filter(self, own: bytes) -> bytes:
        """All filters and a key's own, together."""
        return together((own, *self.row_filters))


@dataclass(slots=True, eq=False)
class _Stream:
    """A stream that goes on, and what applied to its caller when it began."""

    task: asyncio.Task[object]
    caller: CallContext
    applied: Applying
    has_changed: bool = False


def places_of(tenant: str, roles: Iterable[str], key_id: str) -> list[str]:
    """Where policies are that are about a caller, the widest first."""
    subjects = [ANY, *(f"role:{role}" for role in roles), f"key:{key_id}"]
    return [f"{whose}/{subject}" for whose in (ANY, tenant) for subject in subjects]


def applying(records: Iterable[PolicyRecord]) -> Applying:
    """What policies say together."""
    found = tuple(records)
    filters = tuple(record.row_filter for record in found if record.row_filter)
    size = sum(record.size for record in found)
    return Applying(tuple(record.rules for record in found), filters, size)


@lru_cache(maxsize=1024)
def together(filters: tuple[bytes, ...]) -> bytes:
    """Serialised filters, and-ed; the same bytes for the same ones."""
    given = [each for each in filters if each]
    if len(given) < 2:  # noqa: PLR2004  (and-ing takes two)
        return given[0] if given else b""
    whole = Filter()
    for each in given:
        whole.all.filters.add().MergeFromString(each)
    return whole.SerializeToString(deterministic=True)


class Policies:
    """All policies: read, written, and applied to calls."""

    def __init__(self, relay: Relay, clock: Clock) -> None:
        self._items = SystemItems(relay, principal="gateway")
        self._clock = clock
        self._kept: dict[str, PolicyRecord] = {}
        self._applying: dict[tuple[str, tuple[str, ...], str], Applying] = {}
        self._streams: set[_Stream] = set()
        self._stamp = -1
        self._looking = asyncio.Lock()

    async def gate(self, arrival: Arrival) -> None:
        """Let a call through that its caller's policies let through; see `common.door.Gate`.

        Raises:
            ServiceError: POLICY_DENIED; SERVICE_UNAVAILABLE until policies could be read.
        """
        context, method = arrival.caller, arrival.method
        if context.principal == OPERATOR_ID or method is None:
            return
        if self._stamp < 0:
            await self.look()
        found = self.of(context)
        if not found.policy:
            return
        if found.size > POLICIES_BYTES_MAX:
            names = ", ".join(rules.name for rules in found.policy)
            raise refusal(names, f"together they have over {POLICIES_BYTES_MAX} bytes")
        context = replace(
            context, policy=found.policy, row_filter=found.row_filter(context.row_filter)
        )
        arrival.context = context
        check(context, method)

    def place(self, arrival: Arrival) -> AbstractAsyncContextManager[None]:
        """Stands around a stream; see `common.door.Place`. A change of what applies ends it."""
        method, caller = arrival.method, arrival.caller
        if method is None or not method.streams or caller.principal == OPERATOR_ID:
            return nullcontext()
        return self._stream(caller)

    @asynccontextmanager
    async def _stream(self, caller: CallContext) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None
        stream = _Stream(task, caller, self.of(caller))
        self._streams.add(stream)
        try:
            yield
        except asyncio.CancelledError:
            if not stream.has_changed:
                raise
            task.uncancel()
            raise ServiceError(
                Reason.POLICY_CHANGED,
                "What policies let this caller do has changed; call again.",
                tenant_id=caller.tenant,
            ) from None
        finally:
            self._streams.discard(stream)

    def _end_streams(self) -> None:
        for stream in [*self._streams]:
            if not stream.has_changed and self.of(stream.caller) != stream.applied:
                stream.has_changed = True
                stream.task.cancel()

    def of(self, context: CallContext) -> Applying:
        """What applies to a caller, as was read last."""
        who = (context.tenant, context.roles, context.principal)
        found = self._applying.get(who)
        if found is None:
            places = places_of(*who)
            found = applying(self._kept[place] for place in places if place in self._kept)
            if len(self._applying) >= POLICIES_MAX:
                self._applying.clear()
            self._applying[who] = found
        return found

    def records(self, tenant: str, roles: Sequence[str], key_id: str) -> list[PolicyRecord]:
        """Those about a caller, the widest first."""
        places = places_of(tenant, roles, key_id)
        return [self._kept[place] for place in places if place in self._kept]

    def listed(self, tenant: str) -> list[PolicyRecord]:
        """All, or those about a tenant, in order."""
        found = (self._kept[place] for place in sorted(self._kept))
        return [record for record in found if tenant in {"", record.tenant}]

    async def run(self) -> None:
        """Look for changes, for ever."""
        while True:
            try:
                await self.look()
            except ServiceError as error:
                log.debug("policies cannot be read", extra={"why": error.message})
            await asyncio.sleep(POLICY_LOOK_SECONDS)

    async def look(self) -> None:
        """Read all policies where one has changed.

        Raises:
            ServiceError: what state answers.
        """
        async with self._looking:
            stamp = await self._read_stamp()
            if stamp != self._stamp:
                self._kept = {record.place: record for record in await self._read_all()}
                self._applying = {}
                self._stamp = stamp
                self._end_streams()

    async def get(self, tenant: str, subject: str, version: int = 0) -> PolicyRecord:
        """A policy, or a version of it.

        Raises:
            ServiceError: POLICY_NOT_FOUND.
        """
        scope, key = _SCOPE, f"{tenant}/{subject}"
        if version:
            scope, key = _VERSIONS, _version_key(tenant, subject, version)
        record, _ = await self._items.read(scope, key, PolicyRecord)
        if record is None or (record.deleted and not version):
            raise policy_not_found(tenant, subject)
        return record

    async def put(self, record: PolicyRecord, *, expected: int | None = None) -> PolicyRecord:
        """Keep a new version; as it is kept.

        Args:
            record: Without its version.
            expected: The version that must be there, 0: none; None: any.

        Raises:
            ServiceError: POLICY_CHANGED; LIMIT_EXCEEDED.
        """
        before, revision = await self._items.read(_SCOPE, record.place, PolicyRecord)
        if before is None and len(self._kept) >= POLICIES_MAX:
            raise ServiceError(
                Reason.LIMIT_EXCEEDED,
                f"There are {POLICIES_MAX} policies, which is the limit.",
                limit=POLICIES_MAX,
            )
        there = 0 if before is None or before.deleted else before.version
        if expected is not None and expected != there:
            raise _changed(record)
        version = 1 + (before.version if before else 0)
        kept = msgspec.structs.replace(record, version=version)
        try:
            await self._write(kept, revision)
        except ServiceError as error:
            if error.reason != Reason.REVISION_MISMATCH:
                raise
            raise _changed(record) from None
        await self.look()
        return kept

    async def delete(self, tenant: str, subject: str, author: str) -> bool:
        """End a policy; whether there was one."""
        before, _ = await self._items.read(_SCOPE, f"{tenant}/{subject}", PolicyRecord)
        if before is None or before.deleted:
            return False
        ended = PolicyRecord(
            tenant, subject, 0, self._clock.now_ns(), author, allow=before.allow, deleted=True
        )
        await self.put(ended, expected=before.version)
        return True

    async def versions(
        self, tenant: str, subject: str, size: int, token: str
    ) -> tuple[list[PolicyRecord], str]:
        """A page of versions, the oldest first."""
        request = state_pb2.ListStateRequest(
            scope=_VERSIONS, prefix=f"{tenant}/{subject}/", page_size=size, page_token=token
        )
        answer = await self._list(request)
        return [_record(item) for item in answer.items], answer.next_page_token

    async def _write(self, kept: PolicyRecord, revision: int) -> None:
        """The policy, its version and the stamp, all or none, where nobody else was quicker."""
        payload = state_pb2.Payload(json=msgspec.json.encode(kept).decode())
        unchanged = state_pb2.Precondition(revision=revision)
        if not revision:
            unchanged = state_pb2.Precondition(absent=True)
        version = _version_key(kept.tenant, kept.subject, kept.version)
        request = state_pb2.BatchStateRequest(
            checks=[state_pb2.StateCheck(scope=_SCOPE, key=kept.place, precondition=unchanged)],
            writes=[
                state_pb2.StateWrite(scope=_SCOPE, key=kept.place, set=payload),
                state_pb2.StateWrite(scope=_VERSIONS, key=version, set=payload),
                state_pb2.StateWrite(scope=_STAMPS, key=_STAMP, set=state_pb2.Payload(json="null")),
            ],
        )
        await self._items.call("BatchState", request)

    async def _read_stamp(self) -> int:
        request = state_pb2.GetStateRequest(scope=_STAMPS, key=_STAMP)
        try:
            answer = await self._items.call("GetState", request)
        except ServiceError as error:
            if error.reason != Reason.ITEM_NOT_FOUND:
                raise
            return 0
        return state_pb2.GetStateResponse.FromString(answer).item.revision

    async def _read_all(self) -> list[PolicyRecord]:
        found: list[PolicyRecord] = []
        token = ""
        while True:
            request = state_pb2.ListStateRequest(scope=_SCOPE, page_size=_PAGE, page_token=token)
            answer = await self._list(request)
            found += map(_record, answer.items)
            token = answer.next_page_token
            if not token:
                return [record for record in found if not record.deleted]

    async def _list(self, request: state_pb2.ListStateRequest) -> state_pb2.ListStateResponse:
        return state_pb2.ListStateResponse.FromString(await self._items.call("ListState", request))


async def erase(relay: Relay, tenant: str) -> tuple[int, int]:
    """Remove the policies about a tenant that is deleted, every version of them.

    Returns:
        How many records were removed, and how many are left.
    """
    items = SystemItems(relay, principal="gateway")
    removed = left = 0
    for scope in (_SCOPE, _VERSIONS):
        more = True
        while more:
            request = state_pb2.ClearStateRequest(scope=scope, prefix=f"{tenant}/", in_parts=True)
            answer = state_pb2.ClearStateResponse.FromString(
                await items.call("ClearState", request)
            )
            removed, more = removed + answer.deleted_count, answer.more
        look = state_pb2.ListStateRequest(scope=scope, prefix=f"{tenant}/", keys_only=True)
        found = await items.call("ListState", look)
        left += len(state_pb2.ListStateResponse.FromString(found).items)
    if removed:
        stamp = state_pb2.SetStateRequest(
            scope=_STAMPS, key=_STAMP, value=state_pb2.Payload(json="null")
        )
        await items.call("SetState", stamp)
    return removed, left


def check(context: CallContext, method: Method) -> None:
    """Let an operation through.

    Raises:
        ServiceError: POLICY_DENIED.
    """
    short = method.path.removeprefix("/llmspell.v1.")
    refused = operation_refusal(context.policy, short, method.permission)
    if refused is not None:
        raise refused


def policy_not_found(tenant: str, subject: str) -> ServiceError:
    """There is no such policy."""
    return ServiceError(
        Reason.POLICY_NOT_FOUND,
        f"There is no policy {tenant}/{subject}.",
        tenant_id=tenant,
        subject=subject,
    )


def _changed(record: PolicyRecord) -> ServiceError:
    return ServiceError(
        Reason.POLICY_CHANGED,
        f"The policy {record.place} was changed by another call meanwhile; look at it and try "
        "again.",
        tenant_id=record.tenant,
        subject=record.subject,
    )


def _version_key(tenant: str, subject: str, version: int) -> str:
    return f"{tenant}/{subject}/{version:010}"


def _record(item: state_pb2.Item) -> PolicyRecord:
    return msgspec.json.decode(item.value.json, type=PolicyRecord)
