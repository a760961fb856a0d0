"""Templates that ask models, each with a model that says what a test wants, for two tenants."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest
from llmspell import Client, FailedPrecondition

from tests.models.openai_wire import say

JUDGED = {"quality": 0.9, "advice": "None."}
FOUND = {
    "issues": [
        {"severity": "low", "message": "A name.", "line": 9},
        {"severity": "critical", "message": "Divides by zero.", "line": 1},
    ]
}
STEPS = [
    {"name": "encoded", "tool": "base64-encoder", "input": {"operation": "encode", "input": "hi"}},
    {"name": "told", "prompt": "Say {{steps.encoded.output.output}}."},
]
GIVEN = {
    "code-generator": {"description": "Adds two numbers.", "language": "Lua"},
    "code-review": {"code_path": "a.py", "language": "python", "aspects": ["quality"]},
    "content-generation": {"topic": "cats", "output_format": "html"},
    "data-analysis": {"data_file": "t.csv"},
    "document-processor": {"document_paths": ["a.py", "t.csv"]},
    "interactive-chat": {"message": "Hello"},
    "research-assistant": {"topic": "cats"},
    "workflow-orchestrator": {"workflow_config": {"steps": STEPS}},
}


def says(request):
    """A model that fits every schema, writes code where it is asked to, and else repeats."""
    form = request.json.get("response_format", {}).get("json_schema", {}).get("schema", {})
    if "issues" in form.get("properties", {}):
        return say(json.dumps(FOUND))
    if "quality" in form.get("properties", {}):
        return say(json.dumps(JUDGED))
    system, told = (request.json["messages"][i]["content"] for i in (0, -1))
    if "code block" in system:
        return say("Here it is:\n```lua\nreturn 1\n```\n")
    return say(f"On {told} [1]")


@pytest.fixture(scope="module")
def tenants(wired):
    """Clients of two tenants, each with the same files."""
    wired.models.behave("template", says)
    clients = []
    for name in ("template-a", "template-b"):
        wired.up.tenant(name)
        clients.append(Client(wired.up.address, wired.up.keys[name]))
        for path, text in (("a.py", "x = 1 / 0\n"), ("t.csv", "n,m\n1,2\n3,4\n")):
            write = {"operation": "write", "path": path, "input": f"{text}# {name}\n"}
            clients[-1].execute_tool("file-operations", write)
    yield clients
    for client in clients:
        client.close()


@pytest.mark.parametrize("name", GIVEN)
def test_a_template_asks_its_model(tenants, name):
    """What comes fits its schema, and what it took is told."""
    for client in tenants:
        done = client.execute_template(name, GIVEN[name] | {"model": "wire/template"})
        schema = dict(client.get_template(name).result_schema)
        jsonschema_rs.validator_for(schema).validate(done.result)
        assert done.agents_invoked > 0
        assert done.tokens > 0


def test_what_they_make_of_it(wired, tenants):
    """Code without its fence, issues by how bad they are, reports with passages, own files."""
    a, b = tenants

    def made(name, client=a, **more):
        return client.execute_template(name, GIVEN[name] | {"model": "wire/template"} | more)

    assert made("code-generator").result["code"] == "return 1"
    assert made("code-generator").artifacts[0].filename == "code.lua"
    review = made("code-review").result
    assert [each["severity"] for each in review["issues"]] == ["critical", "low"]
    assert made("code-review", severity_filter="high").result["counts"]["low"] == 0
    content = made("content-generation")
    assert (content.result["iterations"], content.result["quality"]) == (1, 0.9)
    assert content.artifacts[0].mime_type == "text/html"
    kept = {"operation": "ingest", "collection": "research", "content": "Cats can fly."}
    a.execute_template("knowledge-management", kept)
    assert "Cats can fly." in made("research-assistant").result["report"]
    assert "Cats can fly." not in made("research-assistant", b).result["report"]
    steps = made("workflow-orchestrator").result["outputs"]
    assert "aGk=" in steps["told"]
    both = [{"name": "one", "prompt": "1"}, {"name": "two", "prompt": "2"}]
    aside = made(
        "workflow-orchestrator", workflow_config={"steps": both}, execution_mode="parallel"
    )
    assert set(aside.result["outputs"]) == {"one", "two"}
    assert aside.agents_invoked == 2
    told = made("document-processor", b, document_paths=["a.py"]).result["documents"][0]
    assert "# template-b" in told["result"]


def test_a_chat_goes_on_in_its_session(wired, tenants):
    """What was said before is told to the model; the other tenant's session is not there."""
    a, b = tenants
    given = {"model": "wire/template", "message": "My name is Ann."}
    session = a.execute_template("interactive-chat", given).result["session_id"]
    again = {"model": "wire/template", "message": "Who am I?"}
    a.execute_template("interactive-chat", again, session_id=session)
    shown = [each["content"] for each in wired.models.asked("template")[-1].json["messages"]]
    assert "My name is Ann." in shown
    with pytest.raises(Exception, match="session"):
        b.execute_template("interactive-chat", again, session_id=session)


def test_a_model_that_cannot_judge_costs_no_text(wired, tenants):
    """The text is there; a reviewer that cannot answer by its schema is an error that says so."""
    wired.models.behave("mute", lambda _: say("I do not know JSON."))
    given = {"topic": "cats", "model": "wire/mute"}
    done = tenants[0].execute_template("content-generation", given)
    assert (done.result["iterations"], done.result["quality"]) == (1, 0)
    with pytest.raises(FailedPrecondition, match="PROVIDER_ANSWER_INVALID"):
        tenants[0].execute_template("code-review", GIVEN["code-review"] | {"model": "wire/mute"})
