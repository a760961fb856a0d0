"""Which addresses tools may reach, and that nothing but a checked address is ever connected to."""

import asyncio
import contextlib
import ipaddress
import socket

import pytest

from services.common.errors import Reason, ServiceError
from services.common.limits import TENANT_CONNECTIONS_MAX
from services.runtime.tools.addresses import (
    AddressPolicy,
    HostRule,
    checked_host,
    is_public,
    literal,
    parse_ports,
    parse_rules,
)
from services.runtime.tools.network import Network


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "127.255.0.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255",
        "192.168.1.1", "169.254.169.254", "168.63.129.16", "100.64.0.1", "100.100.100.200",
        "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1",
        "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fc00::1",
        "fd00:ec2::254", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
        "2001::1", "2001:0:7f00:1::", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1",
        "5f00::1", "100::1", "fec0::1", "2000::1%1",
    ],
)  # fmt: skip
def test_what_is_not_the_internets_is_not_public(text):
    """Loopback, private, link-local, metadata, reserved, and every form that hides one."""
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    ["1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1",
     "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)  # fmt: skip
def test_neighbours_of_those_are_public(text):
    """The ranges end where they should."""
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    ["127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "127.0.0.1"],
)
def test_every_spelling_of_an_address_is_that_address(text):
    """What a resolver would take for 127.0.0.1 is 127.0.0.1 here too."""
    assert literal(text) == ipaddress.ip_address("127.0.0.1")


def test_a_name_is_no_address():
    """Nor is a name with digits."""
    assert literal("example.org") is None
    assert literal("1.example.org") is None


@pytest.mark.parametrize(
    "host",
    ["", ".", "a b", "a\0b", "a\r\nb", "a@b", "a/b", "a\\b", "a%25b", "fe80::1%eth0", "a#b", "a?b",
     "x" * 254],
)  # fmt: skip
def test_what_is_no_host_is_refused(host):
    """Characters that two parsers could read differently never reach one."""
    with pytest.raises(ServiceError) as caught:
        checked_host(host)
    assert caught.value.reason == Reason.FIELD_INVALID


def test_hosts_are_compared_in_one_form():
    """Case, a final dot, brackets and letters beyond ASCII do not make another host."""
    assert checked_host("Example.ORG.") == "example.org"
    assert checked_host("[::1]") == "::1"
    assert checked_host("bücher.example") == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("entry", "host", "address", "port", "fits"),
    [
        ("intranet", "intranet", "10.0.0.1", 80, True),
        ("intranet", "evil-intranet", "10.0.0.1", 80, False),
        ("intranet:81", "intranet", "10.0.0.1", 80, False),
        ("*.example", "a.example", "10.0.0.1", 80, True),
        ("*.example", "example", "10.0.0.1", 80, False),
        ("*.example", "badexample", "10.0.0.1", 80, False),
        ("10.0.0.0/8", "anything", "10.0.0.1", 80, True),
        ("10.0.0.0/8", "anything", "11.0.0.1", 80, False),
        ("127.0.0.1:8080", "x", "127.0.0.1", 8080, True),
        ("127.0.0.1", "x", "::ffff:127.0.0.1", 8080, True),
        ("[::1]:80", "x", "::1", 80, True),
        ("[::1]:80", "x", "::1", 81, False),
        ("::1", "x", "::1", 81, True),
        ("fd00::/8", "x", "fd12::1", 81, True),
    ],
)
def test_a_rule_means_what_it_says(entry, host, address, port, fits):
    """Names, names with all below them, addresses and networks; with a port or without."""
    rule = HostRule.parse(entry)
    assert rule.fits(host, ipaddress.ip_address(address), port) is fits


@pytest.mark.parametrize("entry", ["a/b", "*", "*.*", "a:0", "a:99999", "http://a", "1.2.3.4/99"])
def test_what_is_no_rule_is_refused(entry):
    """An operator's mistake does not open more than was meant."""
    with pytest.raises(ValueError, match=r"host|port|int"):
        parse_rules(f"good, {entry}")


def test_ports_are_numbers():
    """A list with commas, or an error."""
    assert parse_ports("80, 443,") == {80, 443}
    for wrong in ("http", "0", "70000"):
        with pytest.raises(ValueError, match=r"host|port|int"):
            parse_ports(wrong)


def test_blocked_is_stronger_than_allowed_and_own_addresses_are_not_public():
    """The operator's no counts; so does what only this machine knows of itself."""
    own = ipaddress.ip_address("8.8.4.4")
    policy = AddressPolicy(
        allowed=parse_rules("10.0.0.0/8"), blocked=parse_rules("10.0.0.1"), own=lambda: [own]
    )
    policy.check("a", [ipaddress.ip_address("10.0.0.2")], 9)
    policy.check("a", [ipaddress.ip_address("8.8.8.8")], 443)
    for address, port in (("10.0.0.1", 80), ("8.8.4.4", 443), ("8.8.8.8", 25)):
        with pytest.raises(ServiceError) as caught:
            policy.check("a", [ipaddress.ip_address(address)], port)
        assert caught.value.reason == Reason.ADDRESS_REFUSED


@contextlib.asynccontextmanager
async def canary():
    """A listener on the loopback that counts who comes."""
    seen = []
    server = await asyncio.start_server(
        lambda _, writer: (seen.append(1), writer.close()), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1], seen
        await asyncio.sleep(0.05)


async def connect(network, host, port, timeout_s=2.0):
    with network.lines("http-requester", "acme") as lines:
        return socket.socket(fileno=await lines.connect(host, port, timeout_s))


async def refusal(network, host, port, timeout_s=2.0):
    with pytest.raises(ServiceError) as caught:
        await connect(network, host, port, timeout_s)
    return caught.value


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0", "[::1]",
     "0.0.0.0", "LOCALHOST.", "[::ffff:7f00:1]"],
)  # fmt: skip
async def test_no_spelling_reaches_a_canary(host):
    """A listener on the loopback sees nobody, and the refusal names the host as it was asked."""
    async with canary() as (port, seen):
        policy = AddressPolicy(ports=frozenset({port}))
        error = await refusal(Network(policy), host, port)
        assert error.reason == Reason.ADDRESS_REFUSED
        assert error.metadata["host"] == checked_host(host)
    assert not seen


async def test_the_refusal_is_the_same_where_nobody_listens():
    """Nothing can be learnt of what runs on the loopback."""
    async with canary() as (port, _):
        heard = await refusal(Network(AddressPolicy()), "127.0.0.1", port)
    silent = await refusal(Network(AddressPolicy()), "127.0.0.1", port)
    assert repr(heard) == repr(silent)


async def test_a_name_that_changes_its_answer_is_asked_once(monkeypatch):
    """Rebinding: the address that was checked goes to the kernel; nothing is looked up again."""
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])
    went = []

    async def sock_connect(_, address):
        went.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", sock_connect)
    network = Network(AddressPolicy(), resolver=lambda host: next(answers))
    error = await refusal(network, "rebind.example", 443)
    assert error.reason == Reason.HOST_UNREACHABLE
    assert went == [("93.184.216.34", 443)]
    assert next(answers) == ["127.0.0.1"]
    network = Network(AddressPolicy(), resolver=lambda host: ["127.0.0.1"])
    assert (await refusal(network, "rebind.example", 443)).reason == Reason.ADDRESS_REFUSED
    assert len(went) == 1


async def test_an_address_that_swallows_leaves_the_next_its_time(monkeypatch):
    """The first of three may take a third of the time, not all of it."""
    went = []

    async def sock_connect(_, address):
        went.append(address[0])
        if len(went) < 3:
            await asyncio.sleep(10)

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", sock_connect)
    network = Network(AddressPolicy(), resolver=lambda host: ["8.8.8.8", "8.8.4.4", "9.9.9.9"])
    (await connect(network, "slow.example", 443, 0.3)).close()
    assert went == ["8.8.8.8", "8.8.4.4", "9.9.9.9"]


async def test_one_bad_address_among_good_ones_refuses_the_host():
    """Every address is checked, not the first."""
    network = Network(AddressPolicy(), resolver=lambda host: ["8.8.8.8", "10.0.0.1"])
    assert (await refusal(network, "mixed.example", 443)).reason == Reason.ADDRESS_REFUSED


async def test_an_allowed_host_is_reached_and_its_socket_blocks():
    """What the operator names works, by name and by address, on its port only."""
    async with canary() as (port, seen):
        policy = AddressPolicy(allowed=parse_rules(f"localhost:{port}, inner.example:{port}"))
        network = Network(policy, resolver=lambda host: ["127.0.0.1"])
        for host in ("localhost", "inner.example"):
            with await connect(network, host, port) as connected:
                assert connected.getblocking()
        assert (await refusal(network, "other.example", port)).reason == Reason.ADDRESS_REFUSED
        assert (await refusal(network, "localhost", port + 1)).reason == Reason.ADDRESS_REFUSED
        await asyncio.sleep(0.05)
    assert len(seen) == 2


async def test_a_tools_own_server_is_that_tools_alone():
    """The mail server is open to the tool that sends mail, even where nothing else is."""
    async with canary() as (port, seen):
        mine = {"email-sender": parse_rules(f"127.0.0.1:{port}")}
        network = Network(None, allowed_of_tool=mine)
        assert (await refusal(network, "127.0.0.1", port)).reason == Reason.ADDRESS_REFUSED
        with network.lines("email-sender", "acme") as lines:
            socket.socket(fileno=await lines.connect("127.0.0.1", port, 1.0)).close()
        await asyncio.sleep(0.05)
    assert len(seen) == 1


async def test_a_slow_name_server_is_not_waited_for():
    """The look-up ends in time, and so many that hang are the tenant's own trouble only."""
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(host):
        if host == "quick.example":
            return ["10.0.0.1"]
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result()
        return []

    network = Network(AddressPolicy(), resolver=hang)
    errors = await asyncio.gather(*(refusal(network, "slow.example", 80, 0.05) for _ in range(9)))
    assert {error.reason for error in errors} == {Reason.HOST_UNREACHABLE, Reason.LIMIT_EXCEEDED}
    with network.lines("http-requester", "globex") as lines, pytest.raises(ServiceError) as caught:
        await lines.connect("quick.example", 80, 1.0)
    assert caught.value.reason == Reason.ADDRESS_REFUSED
    released.set()
    await asyncio.sleep(0.05)
    assert (await refusal(network, "quick.example", 80)).reason == Reason.ADDRESS_REFUSED


async def test_a_tenants_connections_are_counted_until_its_executions_end():
    """One tenant cannot hold every port of the machine."""
    async with canary() as (port, _):
        network = Network(AddressPolicy(allowed=parse_rules(f"127.0.0.1:{port}")))
        with network.lines("http-requester", "acme") as lines:
            for _ in range(TENANT_CONNECTIONS_MAX):
                network.count("acme")
                lines.given += 1
            with pytest.raises(ServiceError) as caught:
                await lines.connect("127.0.0.1", port, 1.0)
            assert caught.value.reason == Reason.LIMIT_EXCEEDED
            with network.lines("http-requester", "globex") as theirs:
                socket.socket(fileno=await theirs.connect("127.0.0.1", port, 1.0)).close()
        (await connect(network, "127.0.0.1", port)).close()


@pytest.mark.parametrize(
    ("host", "port", "timeout_s"), [("a", 0, 1), ("a", 65536, 1), ("a", 80, 0)]
)
async def test_what_a_stranger_may_ask_for_is_checked(host, port, timeout_s):
    """The process that asks may be in a stranger's hands."""
    error = await refusal(Network(AddressPolicy()), host, port, timeout_s)
    assert error.reason == Reason.FIELD_INVALID
