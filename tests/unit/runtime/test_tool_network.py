"""The ways out of a tool's process, tried by one that does as a stranger says."""

import asyncio
import contextlib

import pytest

from services.common.errors import Reason, ServiceError
from services.common.limits import TOOL_CONNECTIONS_MAX
from services.runtime.tools.addresses import AddressPolicy, parse_rules
from services.runtime.tools.network import Network
from tests.unit.runtime.tooling import caller, open_toolbox

ZYGOTE = "tests.unit.runtime.tool_zygote"
TOOL = "obey-with-network"


@contextlib.asynccontextmanager
async def listener():
    """A server that says `hi` and ends, its port, and how many came."""
    came = []

    async def handle(_, writer):
        came.append(1)
        writer.write(b"hi")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], came
        await asyncio.sleep(0.05)


def leading_to(port):
    """A network that has one allowed port of the loopback."""
    return Network(AddressPolicy(allowed=parse_rules(f"127.0.0.1:{port}")))


async def obey(network, source, tool=TOOL):
    async with open_toolbox(None, network=network, zygote=ZYGOTE) as toolbox:
        return (await toolbox.execute(tool, {"source": source}, caller())).result


async def refusal(network, source, **more):
    with pytest.raises(ServiceError) as caught:
        await obey(network, source, **more)
    return caught.value


async def test_a_connection_cannot_be_led_elsewhere():
    """Neither `connect`, which kills, nor data with an address, open or after its end."""
    async with listener() as (port, _), listener() as (canary, came):
        network = leading_to(port)
        ask = f"s = desk.connect('127.0.0.1', {port}, 2.0)\n"
        error = await refusal(network, ask + f"s.connect(('127.0.0.1', {canary}))")
        assert error.reason == Reason.TOOL_WORKER_LOST
        source = ask + (
            "result = []\n"
            "for flags in (0, socket.MSG_FASTOPEN):\n"
            "    for ended in (False, True):\n"
            "        if ended: s.recv(9); s.shutdown(2)\n"
            "        try:\n"
            f"            s.sendto(b'x', flags, ('127.0.0.1', {canary}))\n"
            "        except OSError as error:\n"
            "            result.append(error.errno)\n"
        )
        with contextlib.suppress(ServiceError):  # killed is well too
            await obey(network, source)
    assert not came


async def test_a_tool_that_needs_no_network_has_none():
    """Also where its process asks as the others do."""
    async with listener() as (port, came):
        error = await refusal(
            leading_to(port), f"desk.connect('127.0.0.1', {port}, 2.0)", tool="obey"
        )
        assert error.reason == Reason.ADDRESS_REFUSED
    assert not came


async def test_what_is_no_question_is_refused_and_the_process_goes_on():
    """The host reads what it is asked as a stranger's words."""
    source = (
        "result = []\n"
        "for host, port, timeout_s in [('x' * 100000, 80, 1), ('127.0.0.1', -1, 1),\n"
        "        ('127.0.0.1', 1 << 40, 1), ('a\\0b', 80, 1), ('::1', 80, -1), ('', 80, 1)]:\n"
        "    try:\n"
        "        desk.connect(host, port, timeout_s)\n"
        "    except Exception as error:\n"
        "        result.append(error.reason)"
    )
    assert await obey(Network(AddressPolicy()), source) == ["FIELD_INVALID"] * 6


async def test_connections_of_an_execution_are_counted():
    """One more than the limit is refused by name."""
    async with listener() as (port, came):
        source = (
            f"for n in range({TOOL_CONNECTIONS_MAX + 1}):\n"
            f"    desk.connect('127.0.0.1', {port}, 2.0).close()"
        )
        error = await refusal(leading_to(port), source)
    assert (error.reason, error.metadata["field"]) == (Reason.LIMIT_EXCEEDED, "connections")
    assert len(came) == TOOL_CONNECTIONS_MAX


async def test_addresses_are_told_only_of_what_may_be_reached():
    """A look-up of a name inside tells nothing of it."""
    network = Network(
        AddressPolicy(allowed=parse_rules("open.example")), resolver=lambda host: ["10.1.2.3"]
    )
    source = "result = desk.addresses('{}', 443, 1.0)"
    assert await obey(network, source.format("open.example")) == ["10.1.2.3"]
    error = await refusal(network, source.format("shut.example"))
    assert error.reason == Reason.ADDRESS_REFUSED
    assert "10.1.2.3" not in repr(error)
