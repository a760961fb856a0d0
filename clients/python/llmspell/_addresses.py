"""Where gateways are: one, or several that share the calls."""

from __future__ import annotations

import ipaddress

from llmspell.errors import FailedPrecondition, InvalidArgument

BALANCED = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
}
"""GRPC's service config that shares calls out among all that are not leaving."""

_SCHEMES = ("unix:", "dns:", "ipv4:", "ipv6:")


def checked_address(address: str) -> str:
    """The address, where it has a possible form.

    Raises:
        FailedPrecondition: CONFIG_INVALID where there is none.
        InvalidArgument: FIELD_INVALID.
    """
    if not address:
        raise FailedPrecondition(
            "No server is named: start one with `llmspell up`, set LLMSPELL_ADDRESS to HOST:PORT, "
            "or give an address.",
            reason="CONFIG_INVALID",
            metadata={"key": "address"},
        )
    if address.startswith(_SCHEMES):
        return address
    for one in address.split(","):
        _, colon, port = one.rpartition(":")
        if "/" in one or not colon or not port.isascii() or not port.isdigit():
            raise InvalidArgument(
                f"address must be HOST:PORT, such as 127.0.0.1:50060, not {address!r}.",
                metadata={"field": "address"},
            )
    if "," in address:
        _family(address)
    return address


def target(address: str) -> str:
    """As grpc has it."""
    return f"{_family(address)}:{address}" if _is_list(address) else address


def is_several(address: str) -> bool:
    """Whether it may stand for more than one gateway."""
    return _is_list(address) or address.startswith("dns:")


def _is_list(address: str) -> bool:
    return "," in address and not address.startswith(_SCHEMES)


def _family(address: str) -> str:
    """`ipv4` or `ipv6`, of all of them: grpc looks up no names in a list."""
    hosts = [one.rpartition(":")[0].strip("[]") for one in address.split(",")]
    try:
        (version,) = {ipaddress.ip_address(host).version for host in hosts}
    except ValueError:
        raise InvalidArgument(
            "several addresses must all be of IPv4 or all of IPv6; for a name that stands for "
            f"several write dns:///HOST:PORT, not {address!r}.",
            metadata={"field": "address"},
        ) from None
    return f"ipv{version}"
