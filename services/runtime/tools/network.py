"""Connections for tools: look up once, check every address, connect to what was checked.

A tool's process can make no socket. It is handed one that is connected already, so neither a second
answer of a name server nor a redirect leads anywhere that was not checked here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from services.common.errors import Reason, ServiceError, field_invalid
from services.common.limits import (
    TENANT_CONNECTIONS_MAX,
    TENANT_LOOKUPS_AT_ONCE,
    TOOL_ADDRESSES_TRIED_MAX,
    TOOL_CONNECT_SECONDS_MAX,
    TOOL_LOOKUP_SECONDS_MAX,
    TOOL_LOOKUPS_AT_ONCE,
)
from services.runtime.tools.addresses import (
    PORT_MAX,
    Address,
    AddressPolicy,
    HostRule,
    checked_host,
    literal,
    refused,
)

Resolve = Callable[[str], Sequence[str]]
"""A name → its addresses, in order. May take long. Raises OSError where there is none."""


def resolve(host: str) -> list[str]:
    """Ask the machine's resolver."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Network:
    """The ways out of this deployment, for tools."""

    def __init__(
        self,
        policy: AddressPolicy | None,
        *,
        resolver: Resolve = resolve,
        allowed_of_tool: dict[str, tuple[HostRule, ...]] | None = None,
    ) -> None:
        """Make it.

        Args:
            policy: What may be reached; None: nothing.
            resolver: Turns names into addresses, in a thread.
            allowed_of_tool: Hosts that one tool may reach and others not, such as its server.
        """
        self._policy = policy
        self._resolver = resolver
        self._allowed_of_tool = allowed_of_tool or {}
        self._threads = ThreadPoolExecutor(TOOL_LOOKUPS_AT_ONCE, thread_name_prefix="lookup")
        self._lookups: Counter[str] = Counter()
        self._connections: Counter[str] = Counter()

    @contextlib.contextmanager
    def lines(self, tool: str, tenant: str) -> Iterator[Lines]:
        """What one execution may ask for; what it was given counts for its tenant until it ends."""
        lines = Lines(self, self._policy_of(tool), tenant)
        try:
            yield lines
        finally:
            self._connections[tenant] -= lines.given
            if not self._connections[tenant]:
                del self._connections[tenant]

    def close(self) -> None:
        """Let the threads go; those that wait for a name server end when it answers."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _policy_of(self, tool: str) -> AddressPolicy | None:
        more = self._allowed_of_tool.get(tool, ())
        if self._policy is None:
            return AddressPolicy(allowed=more, ports=frozenset()) if more else None
        return replace(self._policy, allowed=(*self._policy.allowed, *more))

    def count(self, tenant: str) -> None:
        """One more connection of a tenant.

        Raises:
            ServiceError: LIMIT_EXCEEDED.
        """
        if self._connections[tenant] >= TENANT_CONNECTIONS_MAX:
            raise ServiceError(
                Reason.LIMIT_EXCEEDED,
                f"This tenant's tools hold {TENANT_CONNECTIONS_MAX} connections, which is the "
                "limit.",
                field="connections",
                limit=TENANT_CONNECTIONS_MAX,
            )
        self._connections[tenant] += 1

    async def look_up(self, host: str, tenant: str, timeout_s: float) -> list[Address]:
        """A host's addresses.

        Raises:
            ServiceError: HOST_UNREACHABLE; LIMIT_EXCEEDED where too many of this tenant's wait.
        """
        known = literal(host)
        if known is not None:
            return [known]
        if self._lookups[tenant] >= TENANT_LOOKUPS_AT_ONCE:
            raise ServiceError(
                Reason.LIMIT_EXCEEDED,
                f"This tenant's tools wait for {TENANT_LOOKUPS_AT_ONCE} name servers already.",
                field="host",
                limit=TENANT_LOOKUPS_AT_ONCE,
            )
        self._lookups[tenant] += 1
        asked = self._threads.submit(self._resolver, host)
        loop = asyncio.get_running_loop()
        # A thread cannot be stopped: it counts until the name server has answered it.
        asked.add_done_callback(lambda _: _later(loop, self._answered, tenant))
        try:
            async with asyncio.timeout(min(timeout_s, TOOL_LOOKUP_SECONDS_MAX)):
                texts = await asyncio.wrap_future(asked)
        except (OSError, UnicodeError):  # TimeoutError is an OSError
            raise unreachable(host, "its name is not known, or its name server is slow") from None
        return _addresses(host, texts)

    def _answered(self, tenant: str) -> None:
        self._lookups[tenant] -= 1
        if not self._lookups[tenant]:
            del self._lookups[tenant]


class Lines:
    """What one execution may ask for."""

    def __init__(self, network: Network, policy: AddressPolicy | None, tenant: str) -> None:
        self.given = 0
        """Connections so far."""
        self._network = network
        self._policy = policy
        self._tenant = tenant

    async def addresses(self, host: str, port: int, timeout_s: float) -> list[str]:
        """The addresses of a host, all of them checked.

        Raises:
            ServiceError: FIELD_INVALID, ADDRESS_REFUSED, HOST_UNREACHABLE, LIMIT_EXCEEDED.
        """
        return [str(address) for address in await self._checked(host, port, timeout_s)]

    async def connect(self, host: str, port: int, timeout_s: float) -> int:
        """A connected, blocking descriptor, the caller's to close.

        Raises:
            ServiceError: as `addresses`.
        """
        deadline = time.monotonic() + min(timeout_s, TOOL_CONNECT_SECONDS_MAX)
        addresses = await self._checked(host, port, timeout_s)
        self._network.count(self._tenant)
        self.given += 1
        why, tried = "no address answers", addresses[:TOOL_ADDRESSES_TRIED_MAX]
        for number, address in enumerate(tried):
            # One that swallows what is sent to it leaves the others their part of the time.
            part_s = (deadline - time.monotonic()) / (len(tried) - number)
            try:
                return await _connected(address, port, part_s)
            except TimeoutError:
                why = "it does not answer in time"
            except OSError as error:
                why = (error.strerror or "it does not answer").lower()
        raise unreachable(host, why, port)

    async def _checked(self, host: str, port: int, timeout_s: float) -> list[Address]:
        if not 0 < port <= PORT_MAX:
            raise field_invalid("port", f"must be 1 to {PORT_MAX}")
        if not timeout_s > 0:
            raise field_invalid("timeout", "must be above 0")
        known = checked_host(host)
        if self._policy is None:
            raise refused(known, port)
        addresses = await self._network.look_up(known, self._tenant, timeout_s)
        self._policy.check(known, addresses, port)
        return addresses


def unreachable(host: str, why: str, port: int = 0) -> ServiceError:
    """The other machine does not answer."""
    more = {"port": port} if port else {}
    return ServiceError(
        Reason.HOST_UNREACHABLE, f"{host} cannot be reached: {why}.", host=host, **more
    )


def _addresses(host: str, texts: Sequence[str]) -> list[Address]:
    try:
        found = [ipaddress.ip_address(text) for text in texts]
    except ValueError:
        raise refused(host, 0) from None
    if not found:
        raise unreachable(host, "its name has no address")
    return found


async def _connected(address: Address, port: int, timeout_s: float) -> int:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004
    with socket.socket(family, socket.SOCK_STREAM) as connecting:
        connecting.settimeout(0)
        async with asyncio.timeout(max(timeout_s, 0.0)):
            await asyncio.get_running_loop().sock_connect(connecting, (str(address), port))
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connecting.settimeout(None)
        return connecting.detach()


def _later(loop: asyncio.AbstractEventLoop, call: Callable[[str], None], tenant: str) -> None:
    """A look-up may end after the process's loop has."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, tenant)
