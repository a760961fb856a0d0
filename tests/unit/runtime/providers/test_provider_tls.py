"""Is a provider's certificate checked, also where its address was checked before?"""

import asyncio

import pytest

from services.common.errors import Reason, ServiceError
from services.runtime.providers import retry
from services.runtime.providers.model import ChatRequest, Message, Role
from services.runtime.providers.presets import Place
from services.runtime.providers.registry import Providers
from services.runtime.tools.addresses import AddressPolicy, parse_rules
from services.runtime.tools.network import Network
from tests.models import openai_wire
from tests.unit.runtime.tools.certificates import Authority

REQUEST = ChatRequest(model="m", messages=[Message(role=Role.USER, text="hello")], timeout_s=10)


@pytest.fixture
async def secure(monkeypatch, tmp_path):
    """A server for localhost whose certificate is of a test's own authority: (port, PEM)."""
    monkeypatch.setattr(retry, "PROVIDER_PAUSE_SECONDS_MIN", 0.001)
    authority = Authority()
    context = authority.server(tmp_path, "localhost")
    reply = openai_wire.completion(openai_wire.message("Safe."))

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply.head() + b"".join(reply.parts))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], authority.pem
    server.close()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_only_a_known_certificate_for_the_name_will_do(secure, own, host):
    """Trusted authority and right name are both needed, whoever's address it is."""
    port, pem = secure
    network = Network(AddressPolicy(allowed=parse_rules("127.0.0.0/8, ::1")))
    base_url = f"https://{host}:{port}/v1"
    place = Place(name="here", base_url="http://h" if own else base_url, needs_key=False)
    for authorities in ("", pem):
        providers = Providers({"here": place}, network=network, authorities=authorities)
        provider = await providers.get("here", "acme", base_url=base_url if own else "")
        if authorities and host == "localhost":
            assert (await provider.chat(REQUEST)).text == "Safe."
        else:
            with pytest.raises(ServiceError) as failed:
                await provider.chat(REQUEST)
            assert failed.value.reason == Reason.PROVIDER_UNAVAILABLE
        await providers.close()
    network.close()
