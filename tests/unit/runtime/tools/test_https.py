"""HTTPS: certificates are checked against the host's name, and authorities are the operator's."""

import asyncio

import pytest

from services.common.errors import Reason, ServiceError
from tests.unit.runtime.tooling import caller, open_toolbox
from tests.unit.runtime.tools.certificates import Authority
from tests.unit.runtime.tools.serving import answer, leading_here, moved, serve


@pytest.fixture(scope="module")
def authority():
    """One for all tests here."""
    return Authority()


async def request(authority, address, *, trusted=True, seconds=30):
    told = {"http-requester": {"authorities": authority.pem}} if trusted else {}
    async with open_toolbox(None, network=leading_here(), settings=told) as toolbox:
        arguments = {"input": address, "retry": {"max_attempts": 1}, "timeout": seconds}
        return await toolbox.execute("http-requester", arguments, caller())


async def refusal(authority, address, **more):
    with pytest.raises(ServiceError) as caught:
        await request(authority, address, **more)
    return caught.value


async def test_a_certificate_for_the_hosts_name_is_accepted(authority, tmp_path):
    """Where the operator trusts its authority; and only there."""
    async with serve({"/": answer("safe")}, authority.server(tmp_path, "web.test")) as web:
        address = web.url(scheme="https")
        assert (await request(authority, address)).result["body"] == "safe"
        unknown = await refusal(authority, address, trusted=False)
    assert unknown.reason == Reason.HOST_UNREACHABLE
    assert "certificate" in unknown.message
    assert len(web.asked) == 1


@pytest.mark.parametrize("more", [{}, {"begin": -9, "days": 3}])
async def test_another_hosts_certificate_or_an_old_one_is_refused(authority, tmp_path, more):
    """Nothing of the request is sent."""
    name = "web.test" if more else "other.test"
    async with serve({}, authority.server(tmp_path, name, **more)) as web:
        error = await refusal(authority, web.url(scheme="https"))
    assert "certificate" in error.message
    assert not web.asked


async def test_credentials_do_not_fall_back_to_the_clear(authority, tmp_path):
    """A redirect from https to http is another origin, on the same host and port too."""
    async with serve({"/": answer("clear")}) as plain:
        answers = {"/": moved(plain.url())}
        async with serve(answers, authority.server(tmp_path, "web.test")) as web:
            told = {"http-requester": {"authorities": authority.pem}}
            async with open_toolbox(None, network=leading_here(), settings=told) as toolbox:
                arguments = {
                    "input": web.url(scheme="https"),
                    "auth": {"type": "bearer", "token": "t"},
                }
                await toolbox.execute("http-requester", arguments, caller())
    assert web.asked[0].headers["authorization"] == "Bearer t"
    assert "authorization" not in plain.asked[0].headers


async def test_a_handshake_that_is_not_answered_ends_in_time(authority):
    """A server that takes the greeting of TLS and says nothing holds nobody."""

    async def silent(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        begin = asyncio.get_running_loop().time()
        error = await refusal(authority, f"https://web.test:{port}/", seconds=0.5)
        assert asyncio.get_running_loop().time() - begin < 10
    assert error.reason == Reason.HOST_UNREACHABLE
