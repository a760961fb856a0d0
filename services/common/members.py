"""The processes of one kind: which there are, which of them serve, and whose turn a call is.

An address list names them: `a:50061,b:50061`. A name that stands for several addresses stands for
as many processes, and is looked up again every few seconds, so that processes may come and go. Each
is watched by `grpc.health.v1`, as a whole: whether it is ready is no matter, since what it waits
for is what all of its kind wait for. One that says that it is not serving takes no new work and
finishes what it has; one that cannot be reached takes nothing. Where none serves, a call waits a
little: whoever is started again must not cost anybody a call.

A tenant's calls go to one process as long as that one serves (rendezvous hashing, Thaler and
Ravishankar 1998): what the process remembers of a tenant is then remembered once, and where a
process goes only its own tenants move.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import grpc
from blake3 import blake3
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.access import Method
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.limits import MEMBERS_MAX, UPSTREAM_WAIT_SECONDS
from services.common.relay import Upstream
from services.common.tls import PLAINTEXT, ProcessTls, refuse_plain_call

log = logging.getLogger(__name__)

RESOLVE_S = 2.0
_RETRY_S = 0.1
_REPLY_S = 1.0
"""One that takes longer to say how it is hangs."""
_CLOSE_AFTER_S = 30.0
"""How long a process that has no address any more may take over the calls that it has."""
TAG_LENGTH = 8


class Standing(Enum):
    """How it is with a process."""

    UNKNOWN = "unknown"
    """It was not asked yet."""
    READY = "ready"
    LEAVING = "leaving"
    """It finishes what it has."""
    AWAY = "away"


_STANDINGS = {health_pb2.HealthCheckResponse.NOT_SERVING: Standing.LEAVING}
"""What a process says of itself; one that does not know what it is asked for serves."""
_ALIVE = frozenset({Standing.READY, Standing.LEAVING})


@dataclass(eq=False, slots=True)
class Member:
    """One process of a kind."""

    address: str
    upstream: Upstream
    tag: str
    """Of its address; in the ids of what goes on in it."""
    standing: Standing = Standing.UNKNOWN
    watching: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def serves(self) -> bool:
        """Whether it takes new work."""
        return self.standing is Standing.READY and self.answers

    @property
    def answers(self) -> bool:
        """Whether it can be asked; one that was killed has lost its connection at once."""
        connected = self.upstream.channel.get_state() is grpc.ChannelConnectivity.READY
        hangs = self.upstream.breaker.is_open
        return connected and not hangs and self.standing in _ALIVE


class Members:
    """All processes of one kind."""

    def __init__(
        self,
        name: str,
        addresses: str,
        *,
        wait_s: float = UPSTREAM_WAIT_SECONDS,
        tls: ProcessTls = PLAINTEXT,
    ) -> None:
        """Make it; nothing is connected before `run`.

        Args:
            name: What they are, such as `runtime`.
            addresses: Theirs, with commas between them.
            wait_s: How long a call waits where none serves.
            tls: What this process shows to them.

        Raises:
            ServiceError: CONFIG_INVALID where there is no address, or too many.
        """
        self.name = name
        self._asked = [address.strip() for address in addresses.split(",") if address.strip()]
        self._wait_s = wait_s
        self._tls = tls
        self._hosts: dict[str, str] = {}
        """Address → the name that it was found under, which its certificate is for."""
        self._members: dict[str, Member] = {}
        self._changed = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        if not 0 < len(self._asked) <= MEMBERS_MAX:
            raise ServiceError(
                Reason.CONFIG_INVALID,
                f"The address of {name} must name 1 to {MEMBERS_MAX} processes, with commas "
                "between them.",
                key=name,
                limit=MEMBERS_MAX,
            )
        for address in self._asked:
            refuse_plain_call(name, address, tls)
        self._may_be_many = len(self._asked) > 1 or _is_name(self._asked[0])
        self._take([address for address in self._asked if not _is_name(address)])

    @property
    def all(self) -> list[Member]:
        """Those that have an address now."""
        return list(self._members.values())

    @property
    def all_alive(self) -> list[Member]:
        """Those that answer, be it that they take no new work."""
        return [each for each in self.all if each.answers]

    async def any_serves(self) -> bool:
        """Whether one takes new work, and answers when it is asked: one that hangs does not."""
        for member in [each for each in self.all if each.serves]:
            if await _replies(member):
                return True
        return False

    async def pick(self, tenant: str, tag: str = "", *, timeout_s: float) -> Member:
        """Whose turn a call is.

        Args:
            tenant: Whose call it is.
            tag: Of the process in which that goes on of which the call speaks; empty: of none. One
                that is leaving still takes such calls.
            timeout_s: How long the call may take.

        Raises:
            ServiceError: SERVICE_UNAVAILABLE where none serves.
        """
        home = next((each for each in self._members.values() if tag and each.tag == tag), None)
        if home is not None and home.answers:
            return home
        found = self._best(tenant)
        if found is None:
            found = await self._wait_for(tenant, min(self._wait_s, timeout_s))
        return found

    def _best(self, tenant: str) -> Member | None:
        """The tenant's own of those that serve."""
        ready = [each for each in self._members.values() if each.serves]
        if not ready:  # to wait for one that hangs would only take room
            return next((each for each in self.all if each.upstream.breaker.is_open), None)
        if len(ready) == 1:
            return ready[0]
        return max(ready, key=lambda each: blake3(f"{tenant}\0{each.address}".encode()).digest())

    async def _wait_for(self, tenant: str, seconds: float) -> Member:
        try:
            async with asyncio.timeout(seconds):
                while (found := self._best(tenant)) is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise ServiceError(
                Reason.SERVICE_UNAVAILABLE,
                f"No {self.name} process serves at the moment; try again shortly.",
                service=self.name,
            ) from None
        return found

    # Who there is

    async def run(self) -> None:
        """Look names up and watch every process, until cancelled."""
        names = [address for address in self._asked if _is_name(address)]
        plain = [address for address in self._asked if not _is_name(address)]
        try:
            while True:
                found = [one for name in names for one in await self._addresses(name)]
                self._take([*plain, *found])
                await asyncio.sleep(RESOLVE_S)
        finally:
            for member in self.all:
                if member.watching is not None:
                    member.watching.cancel()

    async def _addresses(self, name: str) -> list[str]:
        """The addresses that a name stands for now; where nobody can tell, those of before."""
        host, _, port = name.rpartition(":")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, int(port), type=socket.SOCK_STREAM
            )
        except OSError as error:
            log.warning("a name is not known", extra={"address": name, "why": str(error)})
            return [each for each in self._members if not self._asked.count(each)]
        addresses = sorted({_written(str(one[4][0]), int(port)) for one in found})[:MEMBERS_MAX]
        self._hosts.update(dict.fromkeys(addresses, host))
        return addresses

    def _take(self, addresses: list[str]) -> None:
        """Know these and no others."""
        for address in dict.fromkeys(addresses):
            if address not in self._members:
                tag = blake3(address.encode()).hexdigest()[:TAG_LENGTH] if self._may_be_many else ""
                self._members[address] = Member(address, self._upstream(address, tag), tag)
        for address in set(self._members) - set(addresses):
            self._let_go(self._members.pop(address))
        for member in self._members.values():
            if member.watching is None and _has_loop():
                self._begin_watching(member)

    def _begin_watching(self, member: Member) -> None:
        """Hear from a process; anew where its connection is another one, as the old may be deaf."""
        if member.watching is not None:
            member.watching.cancel()
        member.watching = asyncio.create_task(self._watch(member))
        member.upstream.on_replaced = lambda: self._begin_watching(member)

    def _upstream(self, address: str, tag: str) -> Upstream:
        host = self._hosts.get(address, "")
        return Upstream(self.name, address, self._tls, tag=tag, host=host)

    def _let_go(self, member: Member) -> None:
        async def close() -> None:
            await asyncio.sleep(_CLOSE_AFTER_S)
            await member.upstream.close()

        member.upstream.on_replaced = None
        if member.watching is not None:
            member.watching.cancel()
        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _watch(self, member: Member) -> None:
        """Hear from a process how it is."""
        request = health_pb2.HealthCheckRequest()
        while True:
            health = health_pb2_grpc.HealthStub(member.upstream.channel)
            try:
                async for answer in health.Watch(request):
                    self._set(member, _STANDINGS.get(answer.status, Standing.READY))
                self._set(member, Standing.AWAY)
            except grpc.aio.AioRpcError as error:
                knows = error.code() is not grpc.StatusCode.UNIMPLEMENTED
                self._set(member, Standing.AWAY if knows else Standing.READY)
            await asyncio.sleep(_RETRY_S)

    def _set(self, member: Member, standing: Standing) -> None:
        if member.standing is not standing:
            told = {"service": self.name, "address": member.address, "standing": standing.value}
            log.info("a process has changed its standing", extra=told)
            member.standing = standing
            self._changed.set()

    async def close(self) -> None:
        """Close all ways."""
        for member in self.all:
            member.upstream.on_replaced = None
        for task in [*self._closing, *(each.watching for each in self.all)]:
            if task is not None:
                task.cancel()
        for member in self.all:
            await member.upstream.close()


class AnyMember:
    """A route to processes that all know the same."""

    def __init__(self, members: Members) -> None:
        self.members = members

    async def pick(
        self, method: Method, request: bytes, context: CallContext, *, timeout_s: float
    ) -> Upstream:
        """The process whose turn a call is.

        Raises:
            ServiceError: SERVICE_UNAVAILABLE where none serves.
        """
        del method, request
        return (await self.members.pick(context.tenant, timeout_s=timeout_s)).upstream

    def others(self, error: ServiceError, but: Upstream) -> Sequence[Upstream]:
        """None: what one does not know, none does."""
        del error, but
        return ()


async def _replies(member: Member) -> bool:
    health = health_pb2_grpc.HealthStub(member.upstream.channel)
    try:
        await health.Check(health_pb2.HealthCheckRequest(), timeout=_REPLY_S)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNIMPLEMENTED
    return True


def _is_name(address: str) -> bool:
    """Whether an address may stand for several."""
    host, _, port = address.rpartition(":")
    if address.startswith("unix:") or not port.isdigit() or host == "localhost":
        return False
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return True
    return False


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
