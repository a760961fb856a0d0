"""Providers through the gateway, from Lua, and in the shell, over servers that are there."""

from __future__ import annotations

import json

import pytest
from llmspell import Client, InvalidArgument, NotFound, PermissionDenied, Unimplemented

from tests.integration.deployment import deployed
from tests.models import openai_wire
from tests.models.scripted import Reply, ScriptedServer, compact, whole

TAGS = {
    "models": [
        {
            "name": "llama3.2:3b",
            "modified_at": "2026-01-02T03:04:05+00:00",
            "size": 2_019_393_189,
            "details": {
                "format": "gguf",
                "parameter_size": "3.2B",
                "quantization_level": "Q4_K_M",
            },
        },
        {"name": "phi3:latest", "size": 7},
    ]
}
OWN = {
    "/api/tags": TAGS,
    "/api/ps": {"models": [{"name": "llama3.2:3b"}]},
    "/api/version": {"version": "0.9.9"},
    "/api/show": {
        "model_info": {"llama.context_length": 131072},
        "capabilities": ["completion", "tools"],
    },
}
PULL = [
    {"status": "pulling manifest"},
    {"status": "pulling abc", "total": 100, "completed": 40},
    {"status": "success"},
]
SECRET = "sk-secret-of-acme-0123456789abcdef"


def ollama(request):
    """What an Ollama server answers."""
    if request.path == "/api/pull":
        name = request.json["model"]
        if name == "nobody":
            return whole(200, compact({"error": "pull model manifest: file does not exist"}))
        return Reply([compact(line) + b"\n" for line in PULL], 200, {})
    if request.path in OWN:
        return whole(200, compact(OWN[request.path]))
    return openai_wire.say("Hello!")(request)


@pytest.fixture(scope="module")
def servers():
    """An Ollama server, and one of OpenAI's protocol that wants a key."""

    def hosted(request):
        if request.headers.get("authorization") != f"Bearer {SECRET}":
            return openai_wire.wrong_key()
        return openai_wire.say("Hi there.")(request)

    with ScriptedServer(ollama) as one, ScriptedServer(hosted, models=["b", "a"]) as other:
        yield one, other


@pytest.fixture(scope="module")
def up(tmp_path_factory, servers):
    """A deployment with these providers; `hosted` has a key for acme alone, `ours` is acme's."""
    folder = tmp_path_factory.mktemp("providers")
    (folder / "acme.key").write_text(SECRET)
    (folder / "poem.json").write_text('{"replies": [{"text": "Roses are red."}]}')
    local, hosted = servers
    (folder / "providers.toml").write_text(
        f'[ollama]\nbase_url = "{local.base_url}"\n'
        f'[hosted]\nbase_url = "{hosted.base_url}"\nmodels = ["c"]\n'
        f'tenant_key_files = {{ acme = "{folder}/acme.key" }}\n'
        '[xai]\nbase_url = "http://127.0.0.1:9/v1"\n'
        f'[ours]\nbase_url = "{hosted.base_url}"\ntenants = ["acme"]\n'
    )
    (folder / "llmspell.toml").write_text(
        f'[providers]\nfile = "{folder}/providers.toml"\nscripts = "{folder}"\noff = "groq"\n'
    )
    arguments = ("--config", str(folder / "llmspell.toml"))
    with deployed(folder, *arguments, variables={"XAI_API_KEY": "xai-12345"}) as deployment:
        yield deployment


@pytest.fixture
def acme(up):
    """A client of acme."""
    with Client(up.address, up.keys["acme"]) as client:
        yield client


@pytest.fixture
def globex(up):
    """A client of globex."""
    with Client(up.address, up.keys["globex"]) as client:
        yield client


def test_each_tenant_sees_its_providers(acme, globex):
    """A provider of one tenant is not there for another, and a key counts for its tenant only."""
    hers = {one.name: one for one in acme.list_providers()}
    theirs = {one.name: one for one in globex.list_providers()}
    assert hers.keys() - theirs.keys() == {"ours"}
    assert "groq" not in hers
    assert hers["hosted"].enabled
    assert not theirs["hosted"].enabled
    assert theirs["hosted"].disabled_reason == "it has no key: none is configured"
    assert hers["xai"].enabled
    assert hers["ollama"].local
    with pytest.raises(NotFound, match="ours"):
        globex.get_provider("ours")
    assert SECRET not in repr(hers) + repr(theirs)


def test_a_provider_is_tested_with_the_caller_s_key(acme, globex):
    """The test asks with acme's key and gets words; globex is told that there is no key."""
    done = acme.test_provider("hosted", model="a")
    assert (done.ok, done.text, done.model_count) == (True, "Hi there.", 2)
    assert done.elapsed_s > 0
    refused = globex.test_provider("hosted", model="a")
    assert (refused.ok, refused.reason) == (False, "PROVIDER_KEY_REFUSED")
    silent = acme.test_provider("vllm")
    assert (silent.ok, silent.reason) == (False, "PROVIDER_NOT_FOUND")
    with pytest.raises(NotFound):
        acme.test_provider("nobody")


def test_models_are_listed_and_told_of(acme, globex, up):
    """Providers are asked where that is wanted; those that fail are named; pages go on."""
    known = acme.list_models(provider="hosted")
    assert "hosted/c" in [one.name for one in known.models]
    asked = acme.list_models(ask_providers=True)
    names = [one.name for one in asked.models]
    assert {"hosted/a", "hosted/b", "ollama/llama3.2:3b", "scripted/echo", "scripted/poem"} <= set(
        names
    )
    assert names == sorted(names)
    assert "hosted" not in asked.silent_providers
    assert "xai" in asked.silent_providers  # nothing is at its port
    assert "hosted/a" not in [one.name for one in globex.list_models().models]
    model = acme.get_model("ollama/llama3.2:3b")
    assert (model.context_tokens, model.tools, model.loaded) == (131072, True, True)
    assert (model.size_bytes, model.quantization) == (2_019_393_189, "Q4_K_M")
    assert (model.parameter_count, model.format) == ("3.2B", "gguf")
    assert model.modified_time.year == 2026
    assert (model.input_usd_per_million, model.output_usd_per_million) == (0.0, 0.0)
    packaged = acme.get_model("xai/grok-4")  # its provider cannot be asked, the package knows it
    assert packaged.input_usd_per_million > 0
    assert packaged.context_tokens > 100_000
    assert not packaged.available
    with pytest.raises(NotFound, match="no model z"):
        acme.get_model("ollama/z")
    with pytest.raises(NotFound, match="provider/model"):
        acme.get_model("nobody/z")


def test_the_operator_lets_a_model_be_fetched(up, acme):
    """Only the operator may; what the provider says comes back, its failure too."""
    with pytest.raises(PermissionDenied):
        acme.pull_model("ollama", "phi3")
    with Client(up.address, up.operator_key, tenant="acme") as operator:
        done = operator.pull_model("ollama", "phi3", wait_s=20)
        assert (done.status, done.error) == ("success", "")
        failed = operator.pull_model("ollama", "nobody", wait_s=20)
        assert "does not exist" in failed.error
        with pytest.raises(Unimplemented):
            operator.pull_model("hosted", "a")
        with pytest.raises(InvalidArgument):
            operator.pull_model("ollama", "")


LUA = """
local status = LocalLLM.status()
assert(status.ollama.running and status.ollama.models == 2 and status.ollama.version == "0.9.9")
local list = LocalLLM.list("ollama")
assert(#list == 2 and #LocalLLM.list() == 2 and list[1].id == "llama3.2:3b")
assert(list[1].backend == "ollama" and list[1].name == "ollama/llama3.2:3b")
assert(list[1].size_bytes == 2019393189 and list[1].quantization == "Q4_K_M")
assert(list[1].modified_at == 1767323045)
for _, id in ipairs({"llama3.2:3b", "llama3.2:3b@ollama", "phi3"}) do
  assert(LocalLLM.info(id).backend == "ollama")
end
local info = LocalLLM.info("llama3.2:3b")
assert(info.format == "gguf" and info.loaded and info.parameter_count == "3.2B")
assert(Provider.test("hosted", "a").text == "Hi there.")
assert(Provider.models("hosted")[1].name == "hosted/a")
"""


def test_lua_asks_the_same(acme, up):
    """`LocalLLM` and `Provider` tell of servers that run, and the operator's scripts can pull."""
    list(acme.run(LUA))
    with Client(up.address, up.operator_key, tenant="acme") as operator:
        operator.grant_access("acme", reason="to look at models", roles=["writer"])
        *_, done = operator.run('return LocalLLM.pull("phi3@ollama", 20)')
    value = done.value
    assert (value["status"], value["percent_complete"], value["model_id"]) == (
        "success",
        100,
        "phi3",
    )


def test_the_shell_shows_them(up):
    """`provider list|test` and `model list|info|pull` print tables, or JSON."""
    listed = up.cli("provider", "list", tenant="acme")
    assert "hosted" in listed.stdout
    assert "OPENAI_API_KEY is not set" in listed.stdout
    usable = up.cli_json("provider", "list", "--usable", tenant="globex")
    assert {"ollama", "scripted"} <= {one["name"] for one in usable}
    tested = up.cli("provider", "test", "hosted/a", tenant="acme")
    assert (tested.returncode, "Hi there." in tested.stdout) == (0, True)
    failed = up.cli("provider", "test", "hosted/a", tenant="globex")
    assert (failed.returncode, "PROVIDER_KEY_REFUSED" in failed.stdout) == (1, True)
    models = up.cli("model", "list", "ollama", tenant="acme")
    assert "ollama/llama3.2:3b" in models.stdout
    assert "1.9 GiB" in models.stdout
    info = up.cli("model", "info", "ollama/llama3.2:3b", tenant="acme")
    assert "131,072 tokens" in info.stdout
    pulled = up.cli(
        "--api-key", up.operator_key, "model", "pull", "ollama/phi3", "--tenant", "acme"
    )
    assert pulled.returncode == 0, pulled.stderr
    assert "success" in pulled.stdout


AGENTS = """
local own = "sk-own-0123456789abcdef"
local refused = Agent.builder():name("far"):model("openai/x"):api_key(own)
  :base_url(ARGS.address):build()
local ok, failure = pcall(refused.execute, refused, "Hello")
assert(not ok and failure.reason == "ADDRESS_REFUSED", tostring(failure))
local ours = Agent.builder():name("ours"):model("hosted/a"):build()
assert(ours:execute("Hello").text == "Hi there.")
local inline = Agent.builder():name("inline"):model("scripted/inline")
  :base_url('data:application/json,{"replies": [{"text": "You said {{input}}."}]}'):build()
assert(inline:execute("Hello").text == "You said Hello.")
return Agent.builder():name("poet"):model("scripted/poem"):build():execute("Hello").text
"""


def test_agents_ask_them(acme, servers):
    """An agent asks with its tenant's key, plays scripts, and reaches no loopback."""
    asked = len(servers[1].requests)
    *_, done = acme.run(AGENTS, named={"address": servers[1].base_url})
    assert done.value == "Roses are red."
    assert len(servers[1].requests) == asked + 1


def test_no_key_is_told_anywhere(up, acme):
    """After all of that no log of any process has a key."""
    acme.test_provider("hosted", model="a")
    logs = "".join(path.read_text("utf-8", "replace") for path in up.data.rglob("*.log*"))
    assert logs
    assert SECRET not in logs
    assert "xai-12345" not in logs
    assert "sk-own-0123456789abcdef" not in logs
    for log in (json.dumps([str(one) for one in acme.list_providers()]),):
        assert SECRET not in log
