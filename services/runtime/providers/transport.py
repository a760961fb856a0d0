"""HTTP to providers: only what is meant is sent, what comes is limited, addresses are checked.

It is the last thing before the socket. The key is put on here, so that neither the openai package,
nor what it logs, nor an exception has it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol

import certifi
import httpcore2
import httpx2

from services.common.errors import ServiceError
from services.common.limits import (
    PROVIDER_ANSWER_BYTES_MAX,
    PROVIDER_CONNECT_SECONDS_MAX,
    PROVIDER_CONNECTIONS_MAX,
)
from services.runtime.providers.failures import not_of_protocol, too_large

_SENT = frozenset({"accept", "connection", "content-length", "content-type", "host"})
"""Headers of the openai package that go out; the others tell of this machine or are its own."""
_USER_AGENT = "llmspell"


class Addresses(Protocol):
    """Says which addresses of a host may be reached; `tools.network.Lines` does."""

    async def addresses(self, host: str, port: int, timeout_s: float) -> list[str]:
        """All of them checked.

        Raises:
            ServiceError: ADDRESS_REFUSED, HOST_UNREACHABLE.
        """
        ...


def trust(authorities: str = "") -> ssl.SSLContext:
    """The certificate authorities that providers are checked against.

    Args:
        authorities: Certificates (PEM) beside the known ones.
    """
    context = ssl.create_default_context(cafile=certifi.where())
    if authorities:
        context.load_verify_locations(cadata=authorities)
    return context


class Checked(httpcore2.AsyncNetworkBackend):
    """Connects to those addresses of a host that were checked, and to no others."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's name
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect.

        Raises:
            ServiceError: ADDRESS_REFUSED, HOST_UNREACHABLE.
        """
        within_s = timeout or PROVIDER_CONNECT_SECONDS_MAX
        failed: Exception | None = None
        for address in await self._addresses.addresses(host, port, within_s):
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore2.ConnectError("no address")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._inner.sleep(seconds)


class Transport(httpx2.AsyncHTTPTransport):
    """Connections to one provider with one key."""

    def __init__(
        self,
        provider: str,
        *,
        headers: Mapping[str, str],
        trusted: ssl.SSLContext,
        addresses: Addresses | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            provider: Its name, for errors.
            headers: That every request has, the key among them.
            trusted: Authorities.
            addresses: Says where may be connected to; None: anywhere, since the operator said so.
        """
        super().__init__(verify=trusted, trust_env=False)
        self._provider = provider
        self._headers = dict(headers)
        backend = Checked(addresses) if addresses is not None else None
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=trusted,
            max_connections=PROVIDER_CONNECTIONS_MAX,
            max_keepalive_connections=PROVIDER_CONNECTIONS_MAX // 8,
            keepalive_expiry=30.0,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request.

        Raises:
            ServiceError: PROVIDER_ANSWER_LIMIT while the answer is read; as `Checked`.
        """
        kept = {name: value for name, value in request.headers.items() if name in _SENT}
        fixed = {"user-agent": _USER_AGENT, "accept-encoding": "identity", **self._headers}
        sent = httpx2.Request(
            request.method,
            request.url,
            headers={**kept, **fixed},
            stream=request.stream,
            extensions=request.extensions,
        )
        response = await super().handle_async_request(sent)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise not_of_protocol(self._provider, "it packs its answer although asked not to")
        stream: Any = response.stream
        response.stream = _Limited(stream, self._provider)
        return response


class _Limited(httpx2.AsyncByteStream):
    """An answer's bytes, as many as an answer may have."""

    def __init__(self, inner: httpx2.AsyncByteStream, provider: str) -> None:
        self._inner = inner
        self._provider = provider

    async def __aiter__(self) -> AsyncIterator[bytes]:
        count = 0
        async for piece in self._inner:
            count += len(piece)
            if count > PROVIDER_ANSWER_BYTES_MAX:
                raise too_large(self._provider, PROVIDER_ANSWER_BYTES_MAX)
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


def told(error: BaseException | None) -> ServiceError | None:
    """An error of ours within those of packages."""
    while error is not None:
        if isinstance(error, ServiceError):
            return error
        error = error.__cause__ or error.__context__
    return None
