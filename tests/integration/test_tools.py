"""Tools through the gateway: by role, apart by tenant, the same from everywhere."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import psutil
import pytest
from llmspell import Client, InvalidArgument, LLMSpellError, NotFound, PermissionDenied

from docs.tools_page import every_tool
from tests.integration.deployment import deployed

OFF = "system-monitor"
TOOLBOX = "services.runtime.toolbox.__main__"


@pytest.fixture(scope="module")
def acme(deployment):
    """A client of a tenant of these tests."""
    tenant = deployment.tenant("tools-acme")
    with Client(deployment.address, deployment.keys[tenant]) as client:
        yield client


@pytest.fixture(scope="module")
def globex(deployment):
    """One of another."""
    tenant = deployment.tenant("tools-globex")
    with Client(deployment.address, deployment.keys[tenant]) as client:
        yield client


@pytest.fixture
def as_role(deployment):
    """Makes clients of the first tenant with one role each."""
    made = []
    tenant = deployment.tenant("tools-acme")

    def client(role):
        key = deployment.cli_json("key", "create", "--tenant", tenant, "--role", role)["key"]
        made.append(Client(deployment.address, key))
        return made[-1]

    yield client
    for each in made:
        each.close()


def lua(client, source):
    """What a script returns."""
    *_, result = client.run(source)
    return result.value


def test_the_list_is_whole_and_the_same_for_both(acme, globex):
    """Every tool of the page, page by page, with the schemas of the page."""
    mine = {tool.name: tool for tool in acme.list_tools()}
    assert mine == {tool.name: tool for tool in globex.list_tools()}
    known = {tool.name: tool for tool in every_tool()}
    assert mine.keys() == known.keys()
    for name, tool in known.items():
        told = mine[name]
        assert told.parameters == json.loads(json.dumps(tool.parameters))
        assert told.result == json.loads(json.dumps(tool.result))
        assert (told.category, told.level) == (tool.category, tool.level.value)
        assert acme.get_tool(name.replace("-", "_")).name == name
    assert list(mine) == sorted(mine)


def test_the_same_call_from_everywhere(deployment, acme):
    """GRPC client, command line and script get the same result, and name the same wrong field."""
    call = {"operation": "encode", "input": "ein Wört"}
    by_client = acme.execute_tool("base64-encoder", call).result
    given = ("base64-encoder", "--params", json.dumps(call))
    by_command = deployment.cli_json("tool", "exec", *given, tenant="tools-acme")["result"]
    source = "return Tool.execute('base64-encoder', {operation = 'encode', text = 'ein Wört'})"
    by_script = lua(acme, source)
    assert by_client == by_command == by_script["result"]

    with pytest.raises(InvalidArgument) as caught:
        acme.execute_tool("base64-encoder", {"operation": "encode", "inptu": "x"})
    assert (caught.value.reason, caught.value.metadata["field"]) == ("FIELD_INVALID", "inptu")
    done = deployment.cli(
        "tool", "exec", "base64-encoder", "operation=encode", "inptu=x", tenant="tools-acme"
    )
    assert done.returncode == 6
    assert "inptu is not a parameter of base64-encoder; did you mean input?" in done.stderr
    wrong = "{operation = 'encode', inptu = 'x'}"
    source = f"local _, e = pcall(Tool.execute, 'base64-encoder', {wrong}) return e.metadata.field"
    assert lua(acme, source) == "inptu"


def test_levels_are_kept_by_role(as_role, acme):
    """A reader executes nothing, a writer what is not privileged, an admin all."""
    reader, writer = as_role("reader"), as_role("writer")
    encode = ("base64-encoder", {"operation": "encode", "input": "x"})
    write = ("file-operations", {"operation": "write", "path": "level.txt", "input": "x"})
    assert reader.get_tool("base64-encoder").level == "safe"
    with pytest.raises(PermissionDenied) as caught:
        reader.execute_tool(*encode)
    assert caught.value.metadata["permission"] == "tool.execute"
    assert writer.execute_tool(*encode).success
    assert writer.execute_tool("tool-state", {"tool_name": "t", "key": "k"}).success
    for attempt in (
        lambda: writer.execute_tool(*write),
        lambda: lua(writer, "return Tool.execute('file-operations', {operation = 'usage'})"),
    ):
        with pytest.raises(LLMSpellError, match=r"privileged and needs the permission tool\.priv"):
            attempt()
    assert acme.execute_tool(*write).success


def test_files_are_apart(acme, globex):
    """A file of one tenant is not there for another, by whatever path; a script sees its own's."""
    given = {"operation": "write", "path": "plans/secret.txt", "input": "acme's"}
    acme.execute_tool("file-operations", {"operation": "create_dir", "path": "plans"})
    assert acme.execute_tool("file-operations", given).success
    read = (
        "return Tool.execute('file-operations', {operation='read', path='plans/secret.txt'}).text"
    )
    assert lua(acme, read) == "acme's"
    with pytest.raises(NotFound):
        globex.execute_tool("file-operations", {"operation": "read", "path": "plans/secret.txt"})
    for path in ("../tools-acme/plans/secret.txt", "/etc/passwd", "plans/../../tools-acme/plans"):
        with pytest.raises(PermissionDenied) as caught:
            globex.execute_tool("file-operations", {"operation": "read", "path": path})
        assert caught.value.reason == "PATH_REFUSED"
    usage = globex.execute_tool("file-operations", {"operation": "list_dir", "path": "."}).result
    assert usage["entries"] == []


def test_what_tools_keep_and_find_is_apart(acme, globex):
    """State of tools and passages are the caller's own tenant's; texts of both may be cut."""
    acme.execute_tool(
        "tool-state", {"operation": "set", "tool_name": "t", "key": "k", "value": {"n": 1}}
    )
    assert acme.execute_tool("tool-state", {"tool_name": "t", "key": "k"}).result["found"]
    assert lua(acme, "return State.tool_get('t', 'k').n") == 1
    assert not globex.execute_tool("tool-state", {"tool_name": "t", "key": "k"}).result["found"]
    acme.ingest(["Cats purr and sleep."])
    query = {"input": "a sleeping cat"}
    assert acme.execute_tool("semantic-search", query).result["count"] == 1
    assert globex.execute_tool("semantic-search", query).result["count"] == 0
    for client in (acme, globex):
        chunks = client.execute_tool("document-chunker", {"input": "a b", "chunk_size": 1})
        assert [each["text"] for each in chunks.result["chunks"]] == ["a", "b"]
        assert [each.text for each in client.chunk_text("a b", chunk_size=1)] == ["a", "b"]
        assert len(client.embed_texts(["a"]).vectors[0]) == 384


def toolbox_zygote(up):
    """The process that tools are forked from."""
    for child in psutil.Process(up.pid("runtime")).children():
        if TOOLBOX in " ".join(child.cmdline()):
            return child
    return None


def _another_zygote(up, before):
    zygote = toolbox_zygote(up)
    return zygote is not None and zygote.pid != before


def until(found, what):
    """Wait for what comes by itself."""
    for _ in range(200):
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(what)


def encode(client):
    """One call of a tool that runs in a process of its own."""
    return client.execute_tool("base64-encoder", {"operation": "encode", "input": "x"}).success


def test_tools_that_are_off_and_processes_that_die(tmp_path):
    """What the operator switches off is not there; a killed process costs its own call only."""
    with (
        deployed(tmp_path, variables={"LLMSPELL__RUNTIME__TOOLS_OFF": f"{OFF}, no-such"}) as up,
        Client(up.address, up.keys["acme"]) as acme,
        Client(up.address, up.keys["globex"]) as globex,
    ):
        assert OFF not in {tool.name for tool in acme.list_tools()}
        with pytest.raises(NotFound):
            acme.execute_tool(OFF)
        assert lua(globex, f"return Tool.exists('{OFF}')") is False
        assert encode(acme)
        _kill_a_worker(up, acme)
        assert encode(acme)
        before = until(lambda: toolbox_zygote(up), "no zygote of tools").pid
        os.kill(before, signal.SIGKILL)
        until(lambda: _works(globex), "tools did not come back")
        until(lambda: _another_zygote(up, before), "tools still come from the dead zygote")
        assert encode(acme)
        assert lua(acme, "return Tool.base64_encoder ~= nil")


def _works(client):
    try:
        return encode(client)
    except LLMSpellError as error:
        if error.reason not in {"TOOL_WORKER_LOST", "RUN_WORKER_LOST", "SERVICE_UNAVAILABLE"}:
            raise
        return False


def _kill_a_worker(up, client):
    """Call until a process of a tool was met and killed; its call ends with its reason."""
    zygote, killed, told = toolbox_zygote(up), threading.Event(), []

    def call():
        while not killed.is_set():
            try:
                encode(client)
            except LLMSpellError as error:
                told.append(error.reason)

    calls = threading.Thread(target=call)
    calls.start()
    try:
        until(lambda: [_stop(child) for child in zygote.children()], "no process of a tool was met")
    finally:
        killed.set()
        calls.join(30)
    assert not calls.is_alive()
    assert set(told) <= {"TOOL_WORKER_LOST"}


def _stop(child):
    try:
        child.kill()
    except psutil.NoSuchProcess:
        return None
    return child
