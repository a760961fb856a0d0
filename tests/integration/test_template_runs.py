"""Templates through the gateway: the same from everywhere, a run of the caller's own each."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest
from llmspell import Client, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied


@pytest.fixture(scope="module")
def acme(deployment):
    """A client of a tenant of these tests."""
    tenant = deployment.tenant("templates-acme")
    with Client(deployment.address, deployment.keys[tenant]) as client:
        yield client


@pytest.fixture(scope="module")
def globex(deployment):
    """One of another."""
    tenant = deployment.tenant("templates-globex")
    with Client(deployment.address, deployment.keys[tenant]) as client:
        yield client


def write(client, path, text):
    """A file of a tenant."""
    client.execute_tool("file-operations", {"operation": "write", "path": path, "input": text})


def test_the_list_is_the_same_for_both(acme, globex):
    """Ten, each with its script to copy, which another tenant's run can use."""
    assert acme.list_templates() == globex.list_templates()
    assert len(acme.list_templates()) == 10
    assert acme.list_templates(category="chat", query="CONVERSATION")[0].id == "interactive-chat"
    template = acme.get_template("file-classification")
    assert "Tool.execute" in template.source
    with pytest.raises(NotFound, match="file-classification"):
        acme.get_template("file-classificatio")


def test_a_copied_script_is_a_script(acme, globex):
    """With its parameters as JSON it does what the template does, on its caller's own files."""
    write(globex, "copied.md", "# Hers")
    source = globex.get_template("file-classification").source
    params = json.dumps(
        {
            "source_path": "copied.md", "classification_strategy": "hybrid",
            "category_preset": "documents", "action": "report", "output_format": "text",
        }
    )  # fmt: skip
    *_, result = globex.run(source, named={"params": params})
    assert result.value["result"]["counts"] == {"notes": 1}


def test_each_works_on_its_caller_s_own(acme, globex):
    """Files and collections of one tenant are not there for the other's template."""
    write(acme, "mine.csv", "a,b\n1,2\n")
    done = acme.execute_template("file-classification", {"source_path": "mine.csv"})
    assert done.result["counts"] == {"spreadsheets": 1}
    assert (done.agents_invoked, done.tokens, done.cost_usd) == (0, 0, 0.0)
    assert done.elapsed_s > 0
    schema = acme.get_template("file-classification").result_schema
    jsonschema_rs.validator_for(dict(schema)).validate(done.result)
    with pytest.raises(FailedPrecondition):
        globex.execute_template("file-classification", {"source_path": "mine.csv"})
    kept = {"operation": "ingest", "collection": "c", "content": "Cats can fly."}
    acme.execute_template("knowledge-management", kept)
    asked = {"operation": "query", "collection": "c", "query": "Who can fly?"}
    assert "Cats" in acme.execute_template("knowledge-management", asked).result["text"]
    with pytest.raises(FailedPrecondition, match="no collection"):
        globex.execute_template("knowledge-management", asked)


def test_wrong_parameters_are_refused_before_anything_happens(acme, globex):
    """Each names its parameter; a session that is not the caller's is not there."""
    for given, field in (
        ({}, "source_path"),
        ({"source_path": "x", "action": "burn"}, "action"),
        ({"source_path": "x", "recursiv": True}, "recursiv"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            acme.execute_template("file-classification", given)
        assert caught.value.metadata["field"] == field
    with pytest.raises(InvalidArgument, match="timeout"):
        acme.execute_template("file-classification", {"source_path": "x"}, execution_s=301)
    session = globex.create_session(name="hers")
    with pytest.raises(NotFound):
        acme.execute_template(
            "file-classification", {"source_path": "x"}, session_id=session.session_id
        )


def test_a_reader_executes_none(deployment, acme):
    """It may look at them."""
    key = deployment.cli_json("key", "create", "--tenant", "templates-acme", "--role", "reader")
    with Client(deployment.address, key["key"]) as reader:
        assert len(reader.list_templates()) == 10
        assert reader.estimate_template("research-assistant", {"topic": "cats"}).tokens == 8000
        with pytest.raises(PermissionDenied):
            reader.execute_template("file-classification", {"source_path": "x"})


def test_from_the_shell(deployment, acme, tmp_path):
    """List, info, its script, an estimate, a run, and a refusal that names the parameter."""
    write(acme, "shell.md", "# Shell")

    def cli(*arguments):
        return deployment.cli("template", *arguments, tenant="templates-acme")

    listed = cli("list")
    assert listed.returncode == 0
    assert "research-assistant" in listed.stdout
    assert "must be given" in cli("info", "code-review").stdout
    assert cli("info", "code-review", "--source").stdout.startswith("--[==[ template")
    told = cli("run", "research-assistant", "topic=cats", "max_sources=4", "--estimate")
    assert "about 5000 tokens" in told.stdout
    done = cli("run", "file-classification", "source_path=shell.md")
    assert '"notes": 1' in done.stdout
    assert "0 agents asked" in done.stderr
    refused = cli("run", "file-classification", "source_path=shell.md", "action=burn")
    assert refused.returncode != 0
    assert "action" in refused.stderr
