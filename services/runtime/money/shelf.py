"""What is kept in state of a tenant's money, and how.

It is among the system tenant's items, in a scope for each tenant: no tenant's own key, script or
backup can change what was spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from llmspell.v1 import state_pb2

from services.common.access import METHODS, Method
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.limits import PAGE_SIZE_MAX
from services.common.scopes import SYSTEM_TENANT

BUDGETS = "budget/"
"""`budget/PERIOD/SUBJECT`: a budget."""
CLAIMS = "claim/"
"""`claim/PERIOD/WINDOW/SUBJECT/LANE`: what a process has spent and may be spending of a budget."""
GATE = "gate"
"""In the place of a lane: is written with each claim that grows, so that no two grow unseen."""
DAYS = "day/"
"""`day/DAY/LANE-NUMBER`: what was spent on a day by one process for one model and agent."""
RUNS = "run/"
"""`run/DAY/LANE-NUMBER`: likewise, of one run; it ends after 30 days."""

_TIMEOUT_S = 5.0
_RACED = frozenset({Reason.REVISION_MISMATCH, Reason.ITEM_NOT_FOUND})

R = TypeVar("R")


class BudgetRecord(msgspec.Struct, frozen=True):
    """A budget as it is kept."""

    limit_nano: int
    limit_tokens: int
    set_ns: int


class ClaimRecord(msgspec.Struct, frozen=True, array_like=True):
    """A claim as it is kept."""

    nano: int
    tokens: int


class RowRecord(msgspec.Struct, array_like=True):
    """What was spent, as it is kept; one process writes it, always as a whole."""

    model: str
    agent: str
    run_id: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    nano: int = 0
    calls: int = 0
    estimated_calls: int = 0


class Calls(Protocol):
    """Calls another process; `common.relay.Relay` does."""

    async def call(
        self, method: Method, request: bytes, context: CallContext, *, timeout_s: float
    ) -> bytes:
        """The answer.

        Raises:
            ServiceError: what the other process answered.
        """
        ...


@dataclass(frozen=True, slots=True)
class Kept(Generic[R]):
    """A record, and where it is."""

    key: str
    record: R
    revision: int


@dataclass(slots=True)
class Batch:
    """What is written in one step, or not at all."""

    scope: str
    checks: list[state_pb2.StateCheck] = field(default_factory=list)
    writes: list[state_pb2.StateWrite] = field(default_factory=list)

    def put(self, key: str, record: msgspec.Struct, *, ttl_s: int = 0) -> None:
        """Write a record; `ttl_s`: for how long, 0: for ever."""
        payload = state_pb2.Payload(json=msgspec.json.encode(record).decode())
        write = state_pb2.StateWrite(scope=self.scope, key=key, set=payload)
        if ttl_s:
            write.ttl.seconds = ttl_s
        self.writes.append(write)

    def remove(self, key: str) -> None:
        """Remove a record."""
        self.writes.append(state_pb2.StateWrite(scope=self.scope, key=key, delete=True))

    def unchanged(self, key: str, revision: int) -> None:
        """Write nothing unless this is as it was; 0: not there."""
        holds = state_pb2.Precondition(revision=revision)
        if not revision:
            holds = state_pb2.Precondition(absent=True)
        self.checks.append(state_pb2.StateCheck(scope=self.scope, key=key, precondition=holds))


class Shelf:
    """One tenant's records."""

    def __init__(self, calls: Calls, tenant: str) -> None:
        self._calls = calls
        self.tenant = tenant
        self.scope = f"custom:money_{tenant}"
        self._context = CallContext(
            tenant=SYSTEM_TENANT, principal="runtime", permissions=("state.read", "state.write")
        )

    def batch(self) -> Batch:
        """An empty one."""
        return Batch(self.scope)

    async def list(self, prefix: str, kind: type[R]) -> tuple[Sequence[Kept[R]], int]:
        """Records under a prefix in key order, and the revision of the gate among them."""
        kept: list[Kept[R]] = []
        token, gate = "", 0
        while True:
            request = state_pb2.ListStateRequest(
                scope=self.scope, prefix=prefix, page_size=PAGE_SIZE_MAX, page_token=token
            )
            answer = state_pb2.ListStateResponse.FromString(await self._call("ListState", request))
            for item in answer.items:
                if item.key.endswith(f"/{GATE}"):
                    gate = item.revision
                else:
                    record = msgspec.json.decode(item.value.json, type=kind)
                    kept.append(Kept(item.key, record, item.revision))
            token = answer.next_page_token
            if not token:
                return kept, gate

    async def write(self, batch: Batch) -> int | None:
        """Write a batch; its revision, None where a check did not hold."""
        request = state_pb2.BatchStateRequest(checks=batch.checks, writes=batch.writes)
        try:
            answer = await self._call("BatchState", request)
        except ServiceError as error:
            if error.reason in _RACED:
                return None
            raise
        return int(state_pb2.BatchStateResponse.FromString(answer).revision)

    async def clear(self) -> int:
        """Remove all; how many there were."""
        request = state_pb2.ClearStateRequest(scope=self.scope, in_parts=True)
        removed = 0
        while True:
            data = await self._call("ClearState", request)
            answer = state_pb2.ClearStateResponse.FromString(data)
            removed += answer.deleted_count
            if not answer.more:
                return removed

    async def count(self) -> int:
        """How many there are; a page of them at most."""
        request = state_pb2.ListStateRequest(
            scope=self.scope, keys_only=True, page_size=PAGE_SIZE_MAX
        )
        return len(
            state_pb2.ListStateResponse.FromString(await self._call("ListState", request)).items
        )

    async def _call(self, name: str, request: Any) -> bytes:
        method = METHODS[f"/llmspell.v1.StateService/{name}"]
        return await self._calls.call(
            method, request.SerializeToString(), self._context, timeout_s=_TIMEOUT_S
        )
