"""Isolation, row filters, time travel and hybrid search, as people meet them: CLI and Lua."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest

STRATEGIES = ("namespace", "database", "metadata", "hybrid")
TEXTS = {"acme": "The red kettle is in the cupboard.", "globex": "The blue key is behind the door."}


def write(path, name, text):
    """A file to ingest."""
    path.mkdir(exist_ok=True)
    (path / name).write_text(text)
    return str(path / name)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_tenants_of_a_strategy_never_meet(deployment, tmp_path, strategy):
    """Under the same names each finds its own and deletes its own, and the strategy is shown."""
    tenants = {}
    for place, text in TEXTS.items():
        tenant = f"{strategy}-{place}"
        made = deployment.cli_json("tenant", "create", tenant, "--isolation", strategy)
        assert made["isolation"] == strategy
        deployment.key_for(tenant)
        tenants[tenant] = text
        file = write(tmp_path / place, "page.txt", text)
        assert deployment.cli_json("rag", "ingest", file, tenant=tenant)["document_count"] == 1
    first, second = tenants
    for tenant, text in tenants.items():
        found = deployment.cli_json("rag", "search", "kettle or key", tenant=tenant)
        assert [passage["text"] for passage in found["passages"]] == [text]
        assert found["complete"]
    deployment.cli_json("rag", "delete", "page.txt", tenant=first)
    assert deployment.cli_json("rag", "list", tenant=first) == []
    assert len(deployment.cli_json("rag", "list", tenant=second)) == 1
    listed = {one["tenant_id"]: one["isolation"] for one in deployment.cli_json("tenant", "list")}
    assert listed[first] == listed[second] == strategy
    deployment.cli_json("tenant", "delete", first, "--yes")
    assert len(deployment.cli_json("rag", "list", tenant=second)) == 1


def test_a_row_filter_bounds_what_a_key_and_its_scripts_see(deployment):
    """Records of another team do not exist for it, whatever it asks; nor do the other tenant's."""
    for tenant in (deployment.tenant("teams-a"), deployment.tenant("teams-b")):
        source = """for _, team in ipairs{"red", "blue"} do
          local metadata = {team = team}
          RAG.ingest{documents = {{id = team, text = "a note of " .. team, metadata = metadata}}}
        end"""
        assert deployment.cli("exec", source, tenant=tenant).returncode == 0
    rule = ("--row-filter", '{"team": "red"}', "--role", "writer")
    made = deployment.cli_json("key", "create", "--tenant", "teams-a", *rule)
    assert "row_filter" in made
    deployment.keys["teams-a/red"] = made["key"]
    ruled = {"tenant": "teams-a/red"}
    for filters in ((), ("--filter", '{"any": [{"team": "blue"}, {"team": "red"}]}')):
        found = deployment.cli_json("rag", "search", "note", *filters, **ruled)
        assert [passage["document_id"] for passage in found["passages"]] == ["red"]
        assert found["match_count"] == 1
    script = 'return #RAG.search("note", {mode = "lexical"}), #RAG.search("note"), #RAG.documents()'
    assert json.loads(deployment.cli("exec", script, **ruled).stdout) == [1, 1, 1]
    written = deployment.cli("exec", 'RAG.ingest{text = "x", metadata = {team = "blue"}}', **ruled)
    assert written.returncode != 0
    assert deployment.cli("rag", "delete", "blue", **ruled).returncode != 0
    for tenant in ("teams-a", "teams-b"):
        found = deployment.cli_json("rag", "search", "note", tenant=tenant)
        assert len(found["passages"]) == 2


def test_a_search_as_of_a_time_sees_what_was_there(deployment):
    """A page that was deleted is found at the time before, by CLI and Lua, in its tenant only."""
    for tenant in (deployment.tenant("times-a"), deployment.tenant("times-b")):
        source = f'RAG.ingest{{id = "p", text = "The page of {tenant}"}}'
        done = deployment.cli("exec", source, tenant=tenant)
        assert done.returncode == 0, done.stderr
        deployment.cli_json("vector", "update", "documents", "--history", "1h", tenant=tenant)
    time.sleep(0.05)
    before = datetime.now(UTC).isoformat()
    time.sleep(0.05)
    deployment.cli_json("rag", "delete", "p", tenant="times-a")
    now = deployment.cli_json("rag", "search", "page", tenant="times-a")
    then = deployment.cli_json("rag", "search", "page", "--as-of", before, tenant="times-a")
    assert (len(now["passages"]), len(then["passages"])) == (0, 1)
    assert then["passages"][0]["text"] == "The page of times-a"
    script = f'return #RAG.search("page", {{as_of = "{before}"}}), #RAG.search("page")'
    done = deployment.cli("exec", script, tenant="times-a")
    assert json.loads(done.stdout) == [1, 0]
    assert len(deployment.cli_json("rag", "search", "page", tenant="times-b")["passages"]) == 1


def test_words_and_meaning_find_what_the_other_does_not(deployment):
    """A rare word is found by words, a paraphrase by meaning, both by hybrid; one tenant alone."""
    tenant, other = deployment.tenant("modes-a"), deployment.tenant("modes-b")
    source = """RAG.ingest{documents = {
      {id = "rare", text = "Part number ZX81-Q is held in stock."},
      {id = "cat", text = "A small feline slept on the windowsill."},
      {id = "tax", text = "Income tax is due in April."}}}"""
    assert deployment.cli("exec", source, tenant=tenant).returncode == 0

    def best(mode, text):
        found = deployment.cli_json("rag", "search", text, "--mode", mode, tenant=tenant)
        return found["passages"][0]["document_id"] if found["passages"] else None

    assert best("lexical", "ZX81-Q") == "rare"
    assert best("lexical", "kitten asleep") is None
    assert best("dense", "kitten asleep") == "cat"
    assert best("hybrid", "ZX81-Q") == "rare"
    assert best("hybrid", "kitten asleep") == "cat"
    assert deployment.cli_json("rag", "search", "ZX81-Q", tenant=other)["passages"] == []
