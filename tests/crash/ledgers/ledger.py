"""What a client knows of one area: what was answered, and what one unanswered call would leave."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import grpc
import msgspec
from llmspell.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    backup_pb2,
    backup_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    journal_pb2,
    journal_pb2_grpc,
    migration_pb2,
    migration_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    state_pb2,
    state_pb2_grpc,
)

from services.common.context import CallContext
from services.common.scopes import SYSTEM_TENANT, TENANTS_SCOPE
from services.common.tenants import TenantRecord
from tests.servers import sealed

TENANTS = ("acme", "globex")
LIFETIME_S = 10**9
"""Of a sealed context: the test's own clock does not matter then."""
GONE = {grpc.StatusCode.UNAVAILABLE}
BROKEN = "Internal error from Core"
"""What grpc itself says where the process goes while a message is being sent to it."""

T = TypeVar("T")
Work = Callable[["Stubs"], Awaitable[None]]


class UnknownError(Exception):
    """The process was gone before it answered."""


class Stubs:
    """All services of the process, and the messages of each."""

    state_pb2, session_pb2, artifact_pb2 = state_pb2, session_pb2, artifact_pb2
    event_pb2, journal_pb2 = event_pb2, journal_pb2
    migration_pb2, backup_pb2 = migration_pb2, backup_pb2

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.state = state_pb2_grpc.StateServiceStub(channel)
        self.sessions = session_pb2_grpc.SessionServiceStub(channel)
        self.artifacts = artifact_pb2_grpc.ArtifactServiceStub(channel)
        self.events = event_pb2_grpc.EventServiceStub(channel)
        self.journals = journal_pb2_grpc.JournalServiceStub(channel)
        self.migrations = migration_pb2_grpc.MigrationServiceStub(channel)
        self.backups = backup_pb2_grpc.BackupServiceStub(channel)


class Ledger(Generic[T]):
    """One area of one client; each call changes what it has from one value to the next."""

    weight = 1
    """How often it has its turn, beside the others."""

    def __init__(self, number: int, tenant: str, rng: random.Random, nothing: T) -> None:
        """`nothing`: what there is before the first call."""
        self.number, self.tenant, self.rng = number, tenant, rng
        self.known = nothing
        self.maybe: T | None = None
        """What the call whose outcome is not known would leave."""
        self.again: tuple[Any, Any] | None = None
        """That call, where it has a request id: repeated, it counts once."""
        self.answers = 0
        self.reads = True
        self.metadata = caller(tenant)

    def works(self) -> list[Work]:
        """What it may do next."""
        raise NotImplementedError

    async def check(self, stubs: Stubs) -> None:
        """Compare with what is there after a restart, and know again."""
        raise NotImplementedError

    async def ask(self, call: Any, request: Any, after: T | None = None) -> Any:
        """Ask; what there is is `after` once this is answered.

        Raises:
            UnknownError: the process was gone.
            grpc.aio.AioRpcError: it refused.
        """
        self.maybe = after
        self.again = (call, request) if getattr(request, "request_id", "") else None
        answer = await answered(call(request, metadata=self.metadata, timeout=20))
        if after is not None:
            self.known = after
        self.maybe, self.again = None, None
        self.answers += 1
        return answer

    async def ask_again(self, name: str, stub: Any) -> None:
        """Repeat a call that has a request id, on the new process: now it has counted, and once."""
        if self.again is None or self.maybe is None:
            return
        _, request = self.again
        await getattr(stub, name)(request, metadata=self.metadata)
        self.known, self.maybe, self.again = self.maybe, None, None

    def settle(self, found: T, what: str) -> None:
        """What was found is what is known, or what the unanswered call would leave.

        Raises:
            AssertionError: it is neither.
        """
        allowed = [self.known, self.known if self.maybe is None else self.maybe]
        words = f"client {self.number} after {self.answers} answers, {what}: "
        assert found in allowed, words + difference(self.known, found)
        self.known, self.maybe, self.again = found, None, None


async def answered(call: Awaitable[T]) -> T:
    """An answer.

    Raises:
        UnknownError: the process was gone.
    """
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() not in GONE and error.details() != BROKEN:
            raise
        raise UnknownError from error


def caller(tenant: str) -> Any:
    """What a call of a tenant carries."""
    return sealed(CallContext(tenant=tenant, principal="k", permissions=("*",)), LIFETIME_S)


async def let_in(stubs: Stubs, *tenants: str) -> None:
    """Make tenants known: calls that go on are ended where there is no such tenant."""
    for tenant in tenants:
        record = msgspec.json.encode(TenantRecord(tenant, tenant, 1)).decode()
        request = state_pb2.SetStateRequest(scope=TENANTS_SCOPE, key=tenant)
        request.value.json = record
        await stubs.state.SetState(request, metadata=caller(SYSTEM_TENANT))


def difference(known: Any, found: Any) -> str:
    """What differs, short enough to be read."""
    if not isinstance(known, dict):
        return f"{str(known)[-300:]} was known, {str(found)[-300:]} is there"
    keys = [key for key in known.keys() | found.keys() if known.get(key) != found.get(key)]
    seen = {key: (str(known.get(key, ""))[:60], str(found.get(key, ""))[:60]) for key in keys}
    return f"{seen}"
