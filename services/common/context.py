"""Who is calling, and for which tenant: one sealed context on every call behind the gateway.

The gateway makes it from a credential; every other process checks the seal and refuses what has
none. A request cannot name a tenant, because there is nowhere to write it.

Sealed form: 32 bytes of blake3 keyed over the JSON that follows, in the binary metadata entry
`llmspell-context-bin`. The key is shared by the four processes from a file.
"""

from __future__ import annotations

import hmac
import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from blake3 import blake3

from services.common.clock import Clock
from services.common.correlation import correlate
from services.common.errors import Reason, ServiceError
from services.common.limits import CONTEXT_DEPTH_MAX, TENANT_ID_LENGTH_MAX
from services.common.policy import Policy
from services.common.tracing import current_traceparent

METADATA_KEY = "llmspell-context-bin"
TENANT_KEY = "llmspell-tenant"
REQUEST_ID_KEY = "llmspell-request-id"
KEY_BYTES = 32
OPERATOR = "operator"
"""The operator's principal; no key of a tenant has this id."""

_TENANT_ID = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{TENANT_ID_LENGTH_MAX - 1}}}", re.ASCII)
_TAG_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What is known of a call, made once and passed on."""

    tenant: str
    """Whose data the call sees; empty for the operator's own calls."""
    principal: str
    """Public part of the key, or `operator`, or the name of a service."""
    permissions: tuple[str, ...]
    """Such as `state.read`; `*` is all of them."""
    any_tenant: bool = False
    """Whether the principal may act for every tenant."""
    row_filter: bytes = b""
    """A serialised Filter of the contract: records that do not match do not exist for the caller.
    Empty: there is no such rule."""
    roles: tuple[str, ...] = ()
    """Of the key; policies are about them."""
    policy: Policy = ()
    """What policies let the caller do. Empty: what it holds is all there is."""
    session: str = ""
    """Session in which the call is made, where it is one of a script that runs in one."""
    request_id: str = ""
    """The same in every log line of the call, and in its answer."""
    expires_ns: int = 0
    """Nanoseconds since the epoch after which no door accepts it."""
    member: str = ""
    """Which of several processes of a kind was called, as the caller tells them apart."""
    depth: int = 0
    """How many doors it went through, to end loops."""
    traceparent: str = ""
    """The span of whoever calls, as W3C writes it (`common.tracing`); empty: there is none."""

    def may_act_for(self, tenant: str) -> bool:
        """Whether the principal may see this tenant's data."""
        return self.any_tenant or tenant == self.tenant

    def housekeeping(self, *permissions: str) -> CallContext:
        """For what a process keeps for the call: with these permissions, under no policy."""
        return replace(self, permissions=permissions, policy=())

    def acting_for(self, tenant: str) -> CallContext:
        """The same call for another tenant; ask `may_act_for` first."""
        return replace(self, tenant=tenant)


_current: ContextVar[CallContext] = ContextVar("call_context")


def current_context() -> CallContext:
    """The context of the call that is being served.

    Raises:
        LookupError: outside a call.
    """
    return _current.get()


def current_tenant() -> str:
    """The tenant of the call that is being served; the door has refused a call that has none."""
    return current_context().tenant


def set_context(context: CallContext) -> None:
    """Make this the context of the task that serves the call."""
    _current.set(context)
    correlate(context.request_id)


def is_tenant_id(text: str) -> bool:
    """Whether a tenant may have this id; false for the system's own."""
    return _TENANT_ID.fullmatch(text) is not None


def new_request_id() -> str:
    """128 random bits as text."""
    return secrets.token_hex(16)


class Seal:
    """Seals and opens contexts with one key."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the context key must be {KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._clock = clock

    def seal(self, context: CallContext, *, lifetime_s: float) -> bytes:
        """Bytes that another door accepts for `lifetime_s` seconds, with this moment's span."""
        sent = replace(
            context,
            expires_ns=self._clock.now_ns() + round(lifetime_s * 1e9),
            depth=context.depth + 1,
            traceparent=current_traceparent(),
        )
        body = msgspec.json.encode(sent)
        return self._tag(body) + body

    def open(self, sealed: bytes) -> CallContext:
        """The context in `sealed`.

        Raises:
            ServiceError: CONTEXT_INVALID where it is forged, damaged, too deep or expired. Which of
                these is not told.
        """
        body = sealed[_TAG_BYTES:]
        if not hmac.compare_digest(sealed[:_TAG_BYTES], self._tag(body)):
            raise context_invalid()
        try:
            context = msgspec.json.decode(body, type=CallContext)
        except msgspec.DecodeError:
            raise context_invalid() from None
        if context.expires_ns <= self._clock.now_ns() or context.depth > CONTEXT_DEPTH_MAX:
            raise context_invalid()
        return context

    def _tag(self, body: bytes) -> bytes:
        return blake3(body, key=self._key).digest()


def context_invalid() -> ServiceError:
    """What a door answers to a call without a good context."""
    return ServiceError(
        Reason.CONTEXT_INVALID,
        "This process takes calls from the gateway only; call the gateway instead.",
    )


def derive_key(key: bytes, purpose: str) -> bytes:
    """A key of its own for another purpose, such as page tokens."""
    return blake3(key, derive_key_context=f"llmspell 2026 {purpose}").digest()


def read_key(path: Path) -> bytes:
    """The context key from its file: 64 hexadecimal digits.

    Raises:
        ServiceError: CONFIG_INVALID where the file is missing or malformed. Its content is not
            shown.
    """
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not hexadecimal text"
        raise _bad_key_file(path, str(why)) from None
    if len(key) != KEY_BYTES:
        raise _bad_key_file(path, f"it holds {len(key)} bytes instead of {KEY_BYTES}")
    return key


def _bad_key_file(path: Path, why: str) -> ServiceError:
    return ServiceError(
        Reason.CONFIG_INVALID,
        f"The context key (deployment.context_key_file) cannot be read from {path}: {why}. "
        "Write 64 hexadecimal digits into it (`openssl rand -hex 32`).",
        key="deployment.context_key_file",
        file=path,
    )
