"""Where records of workflows are kept: in the state process, as the runtime itself, for a tenant.

Each run has the scope `workflow:EXECUTION`. Beside it a tenant has a list of its runs, the newest
first, and its registered workflows. Nothing here asks for a caller's permissions: who may see or
change what is decided before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from llmspell.v1 import state_pb2

from services.common.access import METHODS
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.limits import WORKFLOW_RUN_SECONDS
from services.common.relay import Relay
from services.runtime.workflows.records import RecordSeal

R = TypeVar("R")
WORKFLOWS_SCOPE = "custom:workflows"
"""Where in a tenant its registered workflows are, under their names."""
RUNS_SCOPE = "custom:workflow-runs"
"""Where the list of its runs is; in the system tenant, runs of all tenants that have not ended."""
_SOURCE = "runtime"
_PERMISSIONS = ("state.read", "state.write")
_TIMEOUT_S = 10.0
_PAGE_SIZE = 200
_TIME_MAX_MS = 10**13 - 1


def run_scope(execution_id: str) -> str:
    """Scope of one run."""
    return f"workflow:{execution_id}"


def listed_key(execution_id: str, start_ns: int) -> str:
    """Key in the list of runs: the newest is the first in key order."""
    return f"{_TIME_MAX_MS - start_ns // 10**6:013d}-{execution_id}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An item as it is to be written: a record, or a plain JSON text; None: it is removed."""

    scope: str
    key: str
    record: object = None
    json: str | None = None
    keeps_s: int | None = WORKFLOW_RUN_SECONDS
    """How long it is kept, in seconds; None: for good."""


@dataclass(frozen=True, slots=True)
class Found:
    """An item that was read."""

    key: str
    record: Any
    revision: int


class Shelf:
    """Reads and writes records of all tenants."""

    def __init__(self, relay: Relay, seal: RecordSeal) -> None:
        self._relay = relay
        self._seal = seal

    async def read(self, tenant: str, scope: str, key: str, kind: type[R]) -> tuple[R | None, int]:
        """A record and its revision; None where there is none that one of us has written."""
        request = state_pb2.GetStateRequest(scope=scope, key=key)
        try:
            answer = await self._call(tenant, "GetState", request)
        except ServiceError as error:
            if error.reason != Reason.ITEM_NOT_FOUND:
                raise
            return None, 0
        item = state_pb2.GetStateResponse.FromString(answer).item
        return self._seal.open((tenant, scope, key), item.value.json, kind), item.revision

    async def page(
        self,
        tenant: str,
        scope: str,
        kind_of: Callable[[str], type[Any] | None],
        *,
        prefix: str = "",
        size: int = _PAGE_SIZE,
        token: str = "",
    ) -> tuple[list[Found], str]:
        """A page of records, and the token of the next; `kind_of` a key: None leaves it out."""
        request = state_pb2.ListStateRequest(
            scope=scope, prefix=prefix, page_size=size, page_token=token
        )
        answer = state_pb2.ListStateResponse.FromString(
            await self._call(tenant, "ListState", request)
        )
        found: list[Found] = []
        for item in answer.items:
            kind = kind_of(item.key)
            if kind is None:
                continue
            record = self._seal.open((tenant, scope, item.key), item.value.json, kind)
            if record is not None:
                found.append(Found(item.key, record, item.revision))
        return found, answer.next_page_token

    async def all(
        self, tenant: str, scope: str, kind_of: Callable[[str], type[Any] | None]
    ) -> AsyncIterator[Found]:
        """Every record of a scope."""
        token = ""
        while True:
            page, token = await self.page(tenant, scope, kind_of, token=token)
            for found in page:
                yield found
            if not token:
                return

    async def write(
        self,
        tenant: str,
        entries: Sequence[Entry],
        *,
        checks: Sequence[state_pb2.StateCheck] = (),
        request_id: str = "",
    ) -> int:
        """Write all or none, at one revision, which is told.

        Raises:
            ServiceError: REVISION_MISMATCH where a check does not hold, and what state answers.
        """
        writes = [self._write(tenant, entry) for entry in entries]
        request = state_pb2.BatchStateRequest(checks=checks, writes=writes, request_id=request_id)
        answer = await self._call(tenant, "BatchState", request)
        return state_pb2.BatchStateResponse.FromString(answer).revision

    async def clear(self, tenant: str, scope: str) -> int:
        """Remove all of a scope; tells how many items went."""
        count, more = 0, True
        while more:
            request = state_pb2.ClearStateRequest(scope=scope, in_parts=True)
            told = await self._call(tenant, "ClearState", request)
            answer = state_pb2.ClearStateResponse.FromString(told)
            count, more = count + answer.deleted_count, answer.more
        return count

    def size_of(self, tenant: str, entry: Entry) -> int:
        """Bytes of an item as it would be written."""
        return self._write(tenant, entry).ByteSize()

    def _write(self, tenant: str, entry: Entry) -> state_pb2.StateWrite:
        write = state_pb2.StateWrite(scope=entry.scope, key=entry.key)
        if entry.record is None and entry.json is None:
            write.delete = True
            return write
        place = (tenant, entry.scope, entry.key)
        text = entry.json if entry.json is not None else self._seal.seal(place, entry.record)
        write.set.json = text
        if entry.keeps_s is not None:
            write.ttl.FromSeconds(entry.keeps_s)
        return write

    async def _call(self, tenant: str, name: str, request: Any) -> bytes:
        method = METHODS[f"/llmspell.v1.StateService/{name}"]
        context = CallContext(tenant=tenant, principal=_SOURCE, permissions=_PERMISSIONS)
        data = request.SerializeToString()
        return await self._relay.call(method, data, context, timeout_s=_TIMEOUT_S)


def absent(scope: str, key: str) -> state_pb2.StateCheck:
    """A check that an item is not there."""
    condition = state_pb2.Precondition(absent=True)
    return state_pb2.StateCheck(scope=scope, key=key, precondition=condition)


def at_revision(scope: str, key: str, revision: int) -> state_pb2.StateCheck:
    """A check that an item is as it was."""
    condition = state_pb2.Precondition(revision=revision)
    return state_pb2.StateCheck(scope=scope, key=key, precondition=condition)
