"""Which addresses tools may reach: public ones, and what the operator names.

Nothing here opens anything. A name is not judged, only the addresses that it stands for; an
operator's name is the exception, because the operator answers for where it leads.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

from services.common.errors import Reason, ServiceError, field_invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HOST_LENGTH_MAX = 253
"""Characters of a name, RFC 1035."""
PORT_MAX = 65535

_NOT_PUBLIC_4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carriers' own; a metadata service of one cloud
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # the metadata service of one cloud, in public space
            "169.254.0.0/16",  # link-local; the metadata service of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocols; a metadata service of one cloud
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocols, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which leads to any IPv4 address
            "3fff::/20",  # documentation
        ),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def plain_address(address: Address) -> Address:
    """The address itself, where another one is written inside it (IPv4-mapped, NAT64)."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether anybody on the Internet could be meant by it, and nobody of this network."""
    plain = plain_address(address)
    if isinstance(plain, ipaddress.IPv4Address):
        return not any(plain in network for network in _NOT_PUBLIC_4)
    if plain.scope_id is not None or plain not in _PUBLIC_6:
        return False
    return not any(plain in network for network in _NOT_PUBLIC_6)


def literal(host: str) -> Address | None:
    """The address that a host's text is, in whatever spelling; None: it is a name.

    `127.1`, `0x7f000001`, `017700000001` and `2130706433` all mean 127.0.0.1 to a resolver.
    """
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError, UnicodeError):
        return None


def checked_host(host: str) -> str:
    """A host in the form in which it is compared and looked up.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    bare = bare.rstrip(".").lower()
    if not bare or len(bare) > HOST_LENGTH_MAX or not all(map(_is_of_a_host, bare)):
        raise field_invalid("host", "must be a name or an address")
    try:
        return bare.encode("idna").decode() if not bare.isascii() else bare
    except UnicodeError:
        raise field_invalid("host", "must be a name or an address") from None


def _is_of_a_host(character: str) -> bool:
    """Names have letters, digits, hyphens and underscores; `%`, which begins a zone, is refused."""
    return character.isalnum() or character in "-_.:"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRule:
    """One entry of an operator's list: a name, a name with all below it, or addresses."""

    name: str = ""
    """Such as `intranet.example`, or `*.example`."""
    network: _Network | None = None
    """Set instead of a name."""
    port: int = 0
    """0: every port."""

    @classmethod
    def parse(cls, text: str) -> HostRule:
        """Read `name`, `*.name`, `address` or `network`, each with `:port` or not.

        Raises:
            ValueError: it is none of these.
        """
        host, port = _split_port(text.strip().lower())
        try:
            return cls(network=ipaddress.ip_network(host.strip("[]"), strict=False), port=port)
        except ValueError:
            name = host.removeprefix("*.")
            if not name or "/" in name or ":" in name or "*" in name or literal(name):
                raise ValueError(f"{text!r} is no host") from None
            return cls(name=host.rstrip("."), port=port)

    def fits(self, host: str, address: Address, port: int) -> bool:
        """Whether a connection to this address of this host is meant."""
        if self.port not in (0, port):
            return False
        if self.network is not None:
            return plain_address(address) in self.network or address in self.network
        if self.name.startswith("*."):
            return host.endswith(self.name[1:])
        return host == self.name


def parse_rules(text: str) -> tuple[HostRule, ...]:
    """The entries of a list with commas.

    Raises:
        ValueError: one of them is no host.
    """
    return tuple(HostRule.parse(entry) for entry in text.split(",") if entry.strip())


def parse_ports(text: str) -> frozenset[int]:
    """The numbers of a list with commas.

    Raises:
        ValueError: one of them is no port.
    """
    ports = frozenset(int(entry) for entry in text.split(",") if entry.strip())
    if not all(0 < port <= PORT_MAX for port in ports):
        raise ValueError(f"a port is 1 to {PORT_MAX}")
    return ports


def _split_port(text: str) -> tuple[str, int]:
    """An IPv6 address has colons of its own: with a port, it stands in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.endswith("]")):
        return text, 0
    if not 0 < int(port) <= PORT_MAX:
        raise ValueError(f"{text!r} has no port that there is")
    return host, int(port)


def own_addresses() -> frozenset[Address]:
    """The addresses of this machine, public ones among them."""
    found: set[Address] = set()
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family in (socket.AF_INET, socket.AF_INET6):
                found.add(ipaddress.ip_address(entry.address.partition("%")[0]))
    return frozenset(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPolicy:
    """What the operator allows."""

    allowed: tuple[HostRule, ...] = ()
    """Reachable although they are not public, on the ports that they name."""
    blocked: tuple[HostRule, ...] = ()
    """Never reachable; stronger than `allowed`."""
    ports: frozenset[int] = frozenset({80, 443, 8080, 8443})
    """Of public addresses."""
    own: Callable[[], Iterable[Address]] = own_addresses
    """This machine's addresses, asked each time."""

    def check(self, host: str, addresses: Iterable[Address], port: int) -> None:
        """Agree to a connection to any of these addresses of a host.

        Raises:
            ServiceError: ADDRESS_REFUSED, in words that do not tell which of its addresses it was.
        """
        own = frozenset(self.own())
        if not all(self._may(host, address, port, own) for address in addresses):
            raise refused(host, port)

    def _may(self, host: str, address: Address, port: int, own: frozenset[Address]) -> bool:
        if any(rule.fits(host, address, port) for rule in self.blocked):
            return False
        if any(rule.fits(host, address, port) for rule in self.allowed):
            return True
        public = is_public(address) and plain_address(address) not in own
        return public and port in self.ports


def refused(host: str, port: int) -> ServiceError:
    """The same words for every reason, so that nothing can be learnt of what is there."""
    return ServiceError(
        Reason.ADDRESS_REFUSED,
        f"Tools may not connect to {host} on port {port}: it is not public, or the operator does "
        "not allow it.",
        host=host,
        port=port,
    )
