"""Whose key goes where, which providers there are, and where a tenant's own may be."""

import pytest

from services.common.errors import Reason, ServiceError
from services.common.settings import ProviderSettings
from services.runtime.providers.model import ChatRequest, Message, ModelFacts, Role
from services.runtime.providers.registry import deployed
from services.runtime.tools.addresses import AddressPolicy, parse_rules
from services.runtime.tools.network import Network
from tests.models import openai_wire
from tests.models.scripted import ScriptedServer

HELLO = ChatRequest(model="m", messages=[Message(role=Role.USER, text="hello")], timeout_s=5)


@pytest.fixture
async def providers(tmp_path):
    """Providers of a deployment with this file of the operator, and this network."""
    opened, networks = [], []

    def made(table="", *, environment=None, allowed=None, off=""):
        path = tmp_path / "providers.toml"
        path.write_text(table)
        network = None
        if allowed is not None:
            network = Network(AddressPolicy(allowed=parse_rules(allowed)))
            networks.append(network)
        settings = ProviderSettings(file=str(path), off=off)
        opened.append(deployed(settings, network, environment=environment or {}))
        return opened[-1]

    yield made
    for one in opened:
        await one.close()
    for network in networks:
        network.close()


async def reason_of(awaited):
    with pytest.raises(ServiceError) as failed:
        await awaited
    return failed.value.reason


def sent_key(server):
    return server.requests[-1].headers.get("authorization")


async def test_each_tenant_s_calls_have_its_own_key(providers, tmp_path):
    """A tenant with a key of its own is asked for with it, all others with the operator's."""
    for name in ("ours", "acme"):
        (tmp_path / name).write_text(f"key-of-{name}\n")
    with ScriptedServer([openai_wire.say("Hi.")] * 3) as server:
        one = providers(
            f'[here]\nbase_url = "{server.base_url}"\napi_key_file = "{tmp_path}/ours"\n'
            f'headers = {{ "x-org" = "ours" }}\ntenant_key_files = {{ acme = "{tmp_path}/acme" }}'
        )
        sent = []
        for tenant in ("acme", "globex", "acme"):
            await (await one.get("here", tenant)).chat(HELLO)
            sent.append(sent_key(server))
        assert sent == ["Bearer key-of-acme", "Bearer key-of-ours", "Bearer key-of-acme"]
        assert server.requests[0].headers["x-org"] == "ours"
        assert await one.get("here", "acme") is await one.get("here", "acme")
        assert "key-of" not in repr(one.places("acme"))


async def test_the_operator_s_key_goes_to_the_operator_s_address_only(providers, tmp_path):
    """At a tenant's own address neither the operator's key nor its headers are shown."""
    (tmp_path / "ours").write_text("key-of-ours")
    with ScriptedServer([openai_wire.say("Hi.")] * 3) as server:
        one = providers(
            f'[here]\nbase_url = "http://127.0.0.1:9/v1"\napi_key_file = "{tmp_path}/ours"\n'
            'headers = { "x-org" = "ours" }',
            allowed=f"127.0.0.1:{server.port}",
        )
        await (await one.get("here", "acme", base_url=server.origin)).chat(HELLO)
        assert sent_key(server) is None
        assert "x-org" not in server.requests[-1].headers
        await (await one.get("here", "acme", base_url=server.base_url, api_key="mine")).chat(HELLO)
        assert sent_key(server) == "Bearer mine"
        again = await one.get("here", "globex", base_url=server.base_url, api_key="mine")
        assert again is not await one.get("here", "acme", base_url=server.base_url, api_key="mine")


@pytest.mark.parametrize("allowed", [None, "", "127.0.0.1:1"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "[::ffff:127.0.0.1]"])
async def test_a_tenant_s_own_address_must_be_one_that_tools_may_reach(providers, allowed, host):
    """Loopback in whatever spelling is refused, as the policy says, before a byte is sent."""
    with ScriptedServer() as server:
        one = providers(allowed=allowed)
        provider = await one.get("openai", "acme", base_url=f"http://{host}:{server.port}/v1")
        assert await reason_of(provider.chat(HELLO)) == Reason.ADDRESS_REFUSED
        assert server.connections == 0


async def test_keys_come_from_the_environment(providers):
    """A provider that is known by name is there once its variable is set."""
    one = providers(environment={"GROQ_API_KEY": " gsk \n"})
    assert one.place("groq", "acme").key == "gsk"
    assert one.why_not(one.place("groq", "acme"), "acme") == ""
    assert one.why_not(one.place("openai", "acme"), "acme") == (
        "it has no key: OPENAI_API_KEY is not set"
    )
    assert await reason_of(one.get("openai", "acme")) == Reason.PROVIDER_KEY_REFUSED
    assert await reason_of(one.get("vllm", "acme")) == Reason.PROVIDER_NOT_FOUND


async def test_providers_may_be_for_some_tenants_or_off(providers):
    """Another tenant is told that there is none, and so is everybody of one that is off."""
    one = providers('[here]\nbase_url = "http://h/v1"\ntenants = ["acme"]', off="ollama, groq")
    assert await one.get("here", "acme")
    assert await reason_of(one.get("here", "globex")) == Reason.PROVIDER_NOT_FOUND
    assert await reason_of(one.get("ollama", "acme")) == Reason.PROVIDER_NOT_FOUND
    assert "here" not in [place.name for place in one.places("globex")]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("ollama/llama3.2:3b", ("ollama", "llama3.2:3b")),
        ("openrouter/meta-llama/llama-3", ("openrouter", "meta-llama/llama-3")),
        ("gpt-5-mini", ("openai", "gpt-5-mini")),
        ("nobody/model", Reason.PROVIDER_NOT_FOUND),
        ("openai/", Reason.FIELD_REQUIRED),
        ("", Reason.FIELD_REQUIRED),
    ],
)
async def test_a_model_is_written_with_its_provider(providers, model, expected):
    """The provider is before the first slash; without one it is OpenAI."""
    if isinstance(expected, tuple):
        assert providers().split(model) == expected
        return
    with pytest.raises(ServiceError) as failed:
        providers().split(model)
    assert failed.value.reason == expected


@pytest.mark.parametrize(
    "base_url",
    [
        "ftp://h",
        "http://",
        "http://u:p@h/v1",
        "http://h/v1?x=1",
        "http://h:99999",
        "http://h/\n",
        "x",
    ],
)
async def test_what_is_no_address_is_refused(providers, base_url):
    """An address with a password, a query, or none at all is FIELD_INVALID."""
    assert await reason_of(providers().get("openai", "acme", base_url=base_url)) == (
        Reason.FIELD_INVALID
    )


async def test_a_key_that_is_no_header_is_refused_untold(providers):
    """A key with a line break cannot add headers, and is not quoted."""
    with pytest.raises(ServiceError) as failed:
        await providers().get("openai", "acme", api_key="secret-1\r\nx: y")
    assert failed.value.reason == Reason.FIELD_INVALID
    assert "secret-1" not in repr(failed.value)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("[here]\nurl = 1", "here.url"),
        ("[here]\nbase_url = 1", "here.base_url"),
        ('[here]\nbase_url = "ftp://x"', "here.base_url"),
        ('[here]\nkind = "x"', "here.kind"),
        ('["A b"]', "A b"),
        ("here = 1", "here"),
        ('[here]\napi_key_file = "/nowhere/key"', "here"),
        ("[here", "providers.file"),
    ],
)
async def test_a_file_that_is_wrong_is_told_with_its_key(providers, table, key):
    """The error names what is wrong in the operator's file."""
    with pytest.raises(ServiceError) as failed:
        providers(table)
    assert failed.value.reason == Reason.CONFIG_INVALID
    assert failed.value.metadata["key"] == key


async def test_windows_of_hosted_models_are_known_without_asking(providers):
    """The data package knows a hosted model's window; of an unknown one nothing is said."""
    one = providers(environment={"OPENAI_API_KEY": "k"})
    assert (await one.facts("openai/gpt-4o-mini")).context_tokens == 128_000
    assert (await one.facts("gpt-4o-mini")).context_tokens == 128_000
    assert (await one.facts("openai/no-such-model")).context_tokens == 0
    assert "gpt-4o-mini" in await one.known.all(one.place("openai", "acme"), "acme")


async def test_a_server_that_is_down_is_not_asked_for_each_fact(providers):
    """After a failure nobody waits for the same server again for a while."""
    with ScriptedServer(models=["a"]) as server:
        one = providers(f'[near]\nbase_url = "{server.base_url}"\nlocal = true')
        assert (await one.facts("near/a")).available
        assert (await one.facts("near/b")).name == "b"
        assert len(server.listings) == 1
    down = providers('[near]\nbase_url = "http://127.0.0.1:9/v1"\nlocal = true')
    assert not (await down.facts("near/a")).available
    assert not down.known.is_due(down.place("near", "acme"))


async def test_what_a_tenant_s_own_key_was_told_is_that_tenant_s(providers, tmp_path):
    """A provider that tells acme's key of a model of acme's does not tell others of it by us."""
    for name in ("ours", "acme"):
        (tmp_path / name).write_text(f"key-of-{name}")
    one = providers(
        f'[here]\nbase_url = "http://h/v1"\napi_key_file = "{tmp_path}/ours"\n'
        f'tenant_key_files = {{ acme = "{tmp_path}/acme" }}'
    )
    place = one.place("here", "acme")
    one.known.learn(place, "acme", [ModelFacts(name="ft:secret", available=True)])
    one.known.learn(place, "globex", [ModelFacts(name="shared", available=True)])
    assert set(one.known.told(place, "acme")) == {"ft:secret"}
    assert set(one.known.told(place, "initech")) == {"shared"}
    assert not (await one.facts("here/ft:secret")).available
