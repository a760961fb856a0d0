"""How a process behind the gateway knows its callers: by the gateway's seal, or by their token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from services.common.access import Method
from services.common.clock import Clock
from services.common.context import METADATA_KEY, TENANT_KEY, CallContext, Seal, new_request_id
from services.common.door import Arrival, Door, Gate, Identify, Metadata, SealedContext
from services.common.errors import Reason, ServiceError
from services.common.standing import Standing
from services.common.tokens import PREFIX, Tokens, token_expired
from services.common.vitals import Vitals

_AUTHORIZATION_KEY = "authorization"
_SCHEME = "bearer"


class SealedOrToken:
    """Where there is no sealed context, a token is looked for; never both."""

    def __init__(self, sealed: Identify, tokens: Tokens, name: str) -> None:
        """`name`: of this process, which a token may be meant for."""
        self._sealed = sealed
        self._tokens = tokens
        self._name = name

    async def __call__(self, metadata: Metadata, method: Method) -> CallContext:
        """The caller's context.

        Raises:
            ServiceError: CONTEXT_INVALID, CREDENTIAL_INVALID, PERMISSION_DENIED where a token's
                bearer names another tenant.
        """
        token = _token(metadata)
        if not token or any(key == METADATA_KEY for key, _ in metadata):
            return await self._sealed(metadata, method)
        context = self._tokens.read(token, self._name).context
        mine = ("", context.tenant)
        if any(key == TENANT_KEY and value not in mine for key, value in metadata):
            raise ServiceError(
                Reason.PERMISSION_DENIED, "This key may not act for the tenant that was named."
            )
        return replace(context, request_id=new_request_id())


class UntilEnd:
    """The place that ends a stream with the token that it was begun with."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @asynccontextmanager
    async def place(self, arrival: Arrival) -> AsyncIterator[None]:
        """Stands around a call; whoever came through the gateway has an end there."""
        method = arrival.method
        streams = method is not None and (method.streams or method.request_streams)
        if not streams or not _token(arrival.metadata):
            yield
            return
        left_s = (arrival.caller.expires_ns - self._clock.now_ns()) / 1e9
        try:
            async with asyncio.timeout(left_s) as timer:
                yield
        except TimeoutError:
            if not timer.expired():
                raise
            raise token_expired() from None


def callers(key: bytes, clock: Clock, name: str) -> SealedOrToken:
    """For the process of this name; `key`: the deployment's context key."""
    return SealedOrToken(SealedContext(Seal(key, clock)), Tokens(key, clock), name)


def inner_door(
    vitals: Vitals,
    key: bytes,
    clock: Clock,
    name: str,
    *,
    calls_at_once: int,
    gates: Sequence[Gate] = (),
    standing: Standing,
) -> Door:
    """The door of a process behind the gateway; `key`: the deployment's context key."""
    return vitals.door(
        callers(key, clock, name),
        calls_at_once=calls_at_once,
        gates=(standing.gate, *gates),
        places=(standing.place, UntilEnd(clock).place),
    )


def _token(metadata: Metadata) -> str:
    """The token that was sent; empty where the credential is another, none, or two."""
    sent = [str(value) for key, value in metadata if key == _AUTHORIZATION_KEY]
    scheme, _, text = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    text = text.strip()
    return text if scheme.lower() == _SCHEME and text.startswith(PREFIX) else ""
