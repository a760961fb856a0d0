"""How a client reaches a gateway: address, credential, channel options, retries.

Channels are not encrypted yet: use them on one machine, or inside a network or a tunnel that is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import grpc.aio

from llmspell._contract import METHODS
from llmspell._profile import Profile, profile_path, read_profile
from llmspell.errors import FailedPrecondition, InvalidArgument

MESSAGE_BYTES_MAX = 8 * 1024 * 1024
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where to call, and as whom."""

    address: str
    """`HOST:PORT`."""
    api_key: str = field(default="", repr=False)
    """Empty: none is sent."""
    tenant: str = ""
    """Tenant to act for; empty: the key's own."""
    timeout_s: float = 10.0
    """Seconds until a call is given up."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What each call carries beside its message."""
        entries = []
        if self.api_key:
            entries.append(("authorization", f"Bearer {self.api_key}"))
        if self.tenant:
            entries.append(("llmspell-tenant", self.tenant))
        return tuple(entries)


def resolve(
    address: str | None,
    api_key: str | None,
    *,
    tenant: str | None,
    timeout_s: float,
    profile: str | os.PathLike[str] | None,
    environment: Mapping[str, str],
) -> Connection:
    """Fill what was not given from the environment, then from the profile.

    The profile's key belongs to the profile's address: it is sent nowhere else.

    Raises:
        FailedPrecondition: CONFIG_INVALID where there is no address, or the profile is unfit.
        InvalidArgument: FIELD_INVALID where one of them has an impossible form.
    """
    address = address or environment.get("LLMSPELL_ADDRESS")
    api_key = api_key or environment.get("LLMSPELL_API_KEY")
    saved = Profile()
    if not address or not api_key:
        path = Path(profile) if profile is not None else profile_path(environment)
        saved = _saved(path, required=profile is not None, address=address, api_key=api_key)
    return Connection(
        address=_checked_address(address or saved.address),
        api_key=_header_text("api_key", api_key or saved.api_key),
        tenant=_header_text("tenant", tenant or saved.tenant),
        timeout_s=timeout_s,
    )


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
    if api_key:
        return Profile(address=saved.address)
    return Profile() if address and address != saved.address else saved


def restate(connection: Connection, *, tenant: str | None, timeout_s: float | None) -> Connection:
    """The same connection with what is given changed."""
    return replace(
        connection,
        tenant=connection.tenant if tenant is None else _header_text("tenant", tenant),
        timeout_s=connection.timeout_s if timeout_s is None else timeout_s,
    )


def open_channel(address: str) -> grpc.Channel:
    """A channel for blocking calls."""
    return grpc.insecure_channel(address, options=_OPTIONS)


def open_aio_channel(address: str) -> grpc.aio.Channel:
    """A channel for asyncio."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


def service_config() -> str:
    """GRPC's service config: which methods it may repeat, when, and how often.

    Only what the contract marks as repeatable, and what is done once by its request id; and only
    where no answer came.
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
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}]})


def _checked_address(address: str) -> str:
    if not address:
        raise FailedPrecondition(
            "No server is named: start one with `llmspell up`, set LLMSPELL_ADDRESS to HOST:PORT, "
            "or give an address.",
            reason="CONFIG_INVALID",
            metadata={"key": "address"},
        )
    if address.startswith(("unix:", "dns:", "ipv4:", "ipv6:")):
        return address
    _, colon, port = address.rpartition(":")
    if "/" in address or not colon or not port.isascii() or not port.isdigit():
        raise InvalidArgument(
            f"address must be HOST:PORT, such as 127.0.0.1:50060, not {address!r}.",
            metadata={"field": "address"},
        )
    return address


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
    ("grpc.service_config", service_config()),
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
