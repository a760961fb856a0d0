"""How the asyncio client sends: one connection, and calls that are awaited."""

from __future__ import annotations

import asyncio
import copy
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from llmspell import _health
from llmspell._again import pause_before_again
from llmspell._channel import Connection, open_aio_channel, resolve, restate
from llmspell._contract import (
    AwaitedExchange,
    Call,
    Exchange,
    Page,
    method_of,
    method_of_kind,
    next_page,
    numbered,
    watched,
)
from llmspell._trust import given_trust
from llmspell.errors import NotFound, from_rpc

T = TypeVar("T")


class _Lazy:
    """A channel that is opened on first use, because it belongs to the loop that runs then."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel: grpc.aio.Channel | None = None

    def get(self) -> grpc.aio.Channel:
        """The channel."""
        if self._channel is None:
            self._channel = open_aio_channel(self._connection)
        return self._channel

    async def close(self) -> None:
        """Close the channel, if it was ever opened."""
        if self._channel is not None:
            await self._channel.close()


class AsyncCaller:
    """A connection to a gateway. Belongs to the loop that it is first used in."""

    def __init__(
        self,
        address: str | None = None,
        api_key: str | None = None,
        *,
        tenant: str | None = None,
        timeout_s: float = 10.0,
        profile: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        certificate_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
    ) -> None:
        """Nothing is sent before the first call.

        Args:
            address: `HOST:PORT`; None: `LLMSPELL_ADDRESS`, else the profile's.
            api_key: None: `LLMSPELL_API_KEY`, else the profile's where the address is its own.
            tenant: Whom to act for, where the key may choose.
            timeout_s: Seconds until a call is given up.
            profile: A profile file other than the usual one.
            ca_file: Authority (PEM) that signed the server's certificate, or `system` for those
                that grpc knows; None: `LLMSPELL_CA_FILE`, else the profile's. Without one the
                connection is plaintext.
            certificate_file: Own certificate (PEM), where the server asks for one; None:
                `LLMSPELL_CERTIFICATE_FILE`, else the profile's.
            key_file: Its key; None: `LLMSPELL_KEY_FILE`, else the profile's.

        Raises:
            FailedPrecondition: there is no address, others may read the profile, or a file of TLS
                cannot be read.
            InvalidArgument: one of them has an impossible form.
        """
        self._connection = resolve(
            address,
            api_key,
            tenant=tenant,
            timeout_s=timeout_s,
            profile=profile,
            environment=os.environ,
            trust=given_trust(ca_file, certificate_file, key_file, os.environ),
        )
        self._channel = _Lazy(self._connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; calls in flight are cancelled."""
        await self._channel.close()

    def with_options(self, *, tenant: str | None = None, timeout_s: float | None = None) -> Self:
        """The same connection for another tenant or with another timeout. Close the first one."""
        other = copy.copy(self)
        changed = restate(self._connection, tenant=tenant, timeout_s=timeout_s)
        other._connection = changed  # noqa: SLF001  (a copy of this very object)
        return other

    async def health(self, name: str = "") -> str:
        """`SERVING`, `NOT_SERVING`, `UNKNOWN` or `SERVICE_UNKNOWN`; needs no key.

        Args:
            name: A service, such as `llmspell.v1.StateService`; empty: the whole process.
        """
        send = self._channel.get().unary_unary(
            _health.PATH, _health.write_request, _health.read_answer
        )
        try:
            return await send(name, timeout=self._connection.timeout_s)
        except grpc.RpcError as error:
            known = from_rpc(error, self._connection.address)
            if isinstance(known, NotFound):
                return _health.SERVICE_UNKNOWN
            raise known from None

    async def _unary(self, call: Call[T]) -> T:
        method = method_of(call.request)
        send = self._channel.get().unary_unary(
            method.path, type(call.request).SerializeToString, method.response.FromString
        )
        request = numbered(method, call.request)
        left_s = call.timeout_s or self._connection.timeout_s
        until_s = time.monotonic() + left_s
        while True:
            try:
                answer = await send(request, timeout=left_s, metadata=self._connection.metadata())
            except grpc.RpcError as error:
                known = from_rpc(error, self._connection.address)
                pause_s = pause_before_again(known, method, until_s - time.monotonic())
                if pause_s is None:
                    raise known from None
            else:
                return call.read(answer)
            await asyncio.sleep(pause_s)
            left_s = max(until_s - time.monotonic(), 0.001)

    async def _entries(self, call: Call[Page[T]]) -> AsyncIterator[T]:
        while True:
            page = await self._unary(call)
            for entry in page.entries:
                yield entry
            if not page.next_token:
                return
            call = next_page(call, page.next_token)

    async def _exchange(
        self, exchange: Exchange[T] | AwaitedExchange[T]
    ) -> AsyncGenerator[T, None]:
        """An answer for each request, in order; leaving it early ends the call."""
        method = method_of_kind(exchange.kind)
        open_call: Any = self._channel.get().stream_stream(
            method.path, None, method.response.FromString
        )
        broken: list[BaseException] = []
        answers = open_call(metadata=self._connection.metadata())
        messages = _serialized(exchange, broken)
        sending = asyncio.create_task(_send(answers, messages))
        try:
            async for answer in answers:
                yield exchange.read(answer)
        except (grpc.RpcError, asyncio.CancelledError) as error:
            if broken:  # what the caller gave could not be read: that is what went wrong
                raise broken[0] from None
            if isinstance(error, asyncio.CancelledError):
                raise
            raise from_rpc(error, self._connection.address) from None
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            answers.cancel()

    async def _stream(self, call: Call[T | None]) -> AsyncGenerator[T, None]:
        """What is read, without None; no deadline: the run's own limits end it."""
        method = method_of(call.request)
        send = self._channel.get().unary_stream(
            method.path, type(call.request).SerializeToString, method.response.FromString
        )
        answers = send(call.request, metadata=self._connection.metadata())
        try:
            async for answer in answers:
                entry = call.read(answer)
                if entry is not None:
                    yield entry
        except grpc.RpcError as error:
            raise from_rpc(error, self._connection.address) from None
        finally:
            answers.cancel()


async def _serialized(
    exchange: Exchange[T] | AwaitedExchange[T], broken: list[BaseException]
) -> AsyncIterator[bytes]:
    """The requests' bytes; where making one fails, that is noted."""
    if isinstance(exchange, Exchange):
        for request in watched(exchange.requests, broken):
            yield request.SerializeToString()
        return
    try:
        async for request in exchange.requests:
            yield request.SerializeToString()
    except Exception as error:
        broken.append(error)
        raise


async def _send(call: Any, messages: AsyncIterator[bytes]) -> None:
    """Send messages, each once the one before it was taken.

    Not by `call.write`: one that fails because the service has ended the call would put INTERNAL in
    the place of the reason (grpc's issue 36066).
    """
    try:
        await call.wait_for_connection()
        async for message in messages:
            if call.done():
                return
            await call._cython_call.send_serialized_message(message)  # noqa: SLF001
        await call.done_writing()
    except (grpc.aio.AioRpcError, grpc.aio.InternalError):
        return  # the call has ended; whoever reads its answers has the reason
    except Exception:
        call.cancel()
        raise
