"""How a client reaches a gateway: address, credential, TLS, channel options, retries.

Without an authority to trust a channel is plaintext: for one machine, or inside of a network or a
tunnel that is encrypted itself.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from llmspell._addresses import BALANCED, checked_address, is_several, target
from llmspell._contract import METHODS
from llmspell._profile import Profile, found_profile, profile_path, read_profile
from llmspell._trust import Trust, credentials
from llmspell.errors import FailedPrecondition, InvalidArgument

MESSAGE_BYTES_MAX = 8 * 1024 * 1024
_TRIES = 3
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where to call, and as whom."""

    address: str
    """`HOST:PORT`, or several with commas between them."""
    api_key: str = field(default="", repr=False)
    """Empty: none is sent."""
    tenant: str = ""
    """Tenant to act for; empty: the key's own."""
    timeout_s: float = 10.0
    """Seconds until a call is given up."""
    traceparent: str = ""
    """Span of whoever calls, as W3C writes it; the calls' traces go on from there."""
    trust: Trust = field(default_factory=Trust)
    """TLS; without, plaintext."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What each call carries beside its message."""
        entries = []
        if self.api_key:
            entries.append(("authorization", f"Bearer {self.api_key}"))
        if self.tenant:
            entries.append(("llmspell-tenant", self.tenant))
        if self.traceparent:
            entries.append(("traceparent", self.traceparent))
        return tuple(entries)


def resolve(
    address: str | None,
    api_key: str | None,
    *,
    tenant: str | None,
    timeout_s: float,
    profile: str | os.PathLike[str] | None,
    environment: Mapping[str, str],
    trust: Trust | None = None,
) -> Connection:
    """Fill what was not given from the environment, then from the profile.

    TRACEPARENT of the environment, if it is one, goes with every call.

    The profile's key and files of TLS belong to the profile's address: they count nowhere else.

    Raises:
        FailedPrecondition: CONFIG_INVALID where there is no address, or the profile is unfit.
        InvalidArgument: FIELD_INVALID where one of them has an impossible form.
    """
    address = address or environment.get("LLMSPELL_ADDRESS")
    api_key = api_key or environment.get("LLMSPELL_API_KEY")
    saved = Profile()
    if not address or not api_key:
        path = profile_path(environment)
        if profile is not None:
            path = found_profile(os.fspath(profile), environment)
        saved = _saved(path, required=profile is not None, address=address, api_key=api_key)
    return Connection(
        address=checked_address(address or saved.address),
        api_key=_header_text("api_key", api_key or saved.api_key),
        tenant=_header_text("tenant", tenant or saved.tenant),
        timeout_s=timeout_s,
        traceparent=_traceparent(environment.get("TRACEPARENT", "")),
        trust=trust
        or Trust(
            ca_file=saved.ca_file,
            certificate_file=saved.certificate_file,
            key_file=saved.key_file,
        ),
    )


def _traceparent(text: str) -> str:
    """It, or nothing where it is none: a trace is not worth a call."""
    return text if _TRACEPARENT.fullmatch(text) else ""


def _saved(path: Path, *, required: bool, address: str | None, api_key: str | None) -> Profile:
    saved = read_profile(path)
    if saved is None:
        if required:
            raise FailedPrecondition(
                f"There is no profile {path}.",
                reason="CONFIG_INVALID",
                metadata={"file": str(path)},
            )
        return Profile()
    if address and address != saved.address:
        return Profile()
    # Another key: the saved tenant is not its own.
    return replace(saved, api_key="", tenant="") if api_key else saved


def restate(connection: Connection, *, tenant: str | None, timeout_s: float | None) -> Connection:
    """The same connection with what is given changed."""
    return replace(
        connection,
        tenant=connection.tenant if tenant is None else _header_text("tenant", tenant),
        timeout_s=connection.timeout_s if timeout_s is None else timeout_s,
    )


def open_channel(connection: Connection) -> grpc.Channel:
    """A channel for blocking calls.

    Raises:
        FailedPrecondition: CONFIG_INVALID where a file of TLS cannot be read.
    """
    if not connection.trust:
        return grpc.insecure_channel(
            target(connection.address), options=_options(connection.address)
        )
    shown = credentials(connection.trust)
    return grpc.secure_channel(
        target(connection.address), shown, options=_options(connection.address)
    )


def open_aio_channel(connection: Connection) -> grpc.aio.Channel:
    """A channel for asyncio.

    Raises:
        FailedPrecondition: CONFIG_INVALID where a file of TLS cannot be read.
    """
    if not connection.trust:
        return grpc.aio.insecure_channel(
            target(connection.address), options=_options(connection.address)
        )
    shown = credentials(connection.trust)
    return grpc.aio.secure_channel(
        target(connection.address), shown, options=_options(connection.address)
    )


def service_config(address: str = "") -> str:
    """GRPC's service config: how calls are shared, which may be repeated, when, and how often.

    Only what the contract marks as repeatable, and what is done once by its request id; and only
    where no answer came. Where there are several gateways a call waits until one takes it.
    """
    names = [
        {"service": method.service, "method": method.name}
        for method in METHODS.values()
        if method.repeatable
    ]
    policy = {
        "maxAttempts": _TRIES,
        # Together about as long as a process that died takes to be back.
        "initialBackoff": "0.3s",
        "maxBackoff": "2s",
        "backoffMultiplier": 5,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    several = is_several(address)
    methods: list[dict[str, Any]] = [
        {"name": [{}], "waitForReady": several},
        {"name": names, "retryPolicy": policy, "waitForReady": several},
    ]
    return json.dumps({"methodConfig": methods} | (BALANCED if several else {}))


def _options(address: str) -> tuple[tuple[str, object], ...]:
    return (*_OPTIONS, ("grpc.service_config", service_config(address)))


def _header_text(name: str, value: str) -> str:
    value = value.strip()
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise InvalidArgument(
            f"{name} must be visible ASCII characters without spaces.", metadata={"field": name}
        )
    return value


_OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # Calls larger than this buffer would not be repeated.
    ("grpc.per_rpc_retry_buffer_size", 2 * MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A gateway that restarts is back within a second or two; do not wait a minute to notice.
    # (min_reconnect_backoff_ms stays as it is: it bounds the time that connecting may take.)
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # The key must not travel through somebody's proxy.
    ("grpc.enable_http_proxy", 0),
)
