"""`llmspell agent` on a real deployment: asked once, talked with, kept, for two tenants."""

import json

import pytest

from tests.integration.test_repl import CTRL_D, ENTER, Terminal

PLAYED = {
    "replies": [
        {"tools": [{"name": "calculator", "arguments": {"input": "6 * 7"}}]},
        {"text": "It is {{result.result}}."},
    ]
}
URL = f"data:application/json,{json.dumps(PLAYED)}"
SLOW = {"replies": [{"text": "at last", "wait_s": 50}, {"text": "quick"}]}
SLOW_URL = f"data:application/json,{json.dumps(SLOW)}"
ASK = ("agent", "run", "scripted/inline", "How much?", "--tool", "calculator")


@pytest.fixture(scope="module")
def tenants(deployment):
    """Two that must never meet."""
    return [deployment.tenant(name) for name in ("shell-one", "shell-two")]


def test_an_agent_is_asked_once(deployment, tenants):
    """Its words are on stdout; tools as they are called, and the cost at the end, on stderr."""
    for tenant in tenants:
        done = deployment.cli(*ASK, "--base-url", URL, "--system", "Calculate.", tenant=tenant)
        assert (done.stdout, done.returncode) == ("It is 42.0.\n", 0)
        started, ended, cost = done.stderr.splitlines()
        assert started == '→ calculator {"input": "6 * 7"}'
        assert ended.startswith("← calculator {")
        assert "2 model calls · 1 tool call" in cost
        assert "$0.00" in cost


def test_an_answer_as_json(deployment, tenants):
    """All of it, and nothing else."""
    told = deployment.cli_json(*ASK, "--base-url", URL, tenant=tenants[0])
    assert (told["text"], told["turns"], told["spent"]["tool_calls"]) == ("It is 42.0.", 2, 1)
    assert told["tool_calls"][0]["result"]["result"] == 42


def test_agents_are_kept_for_their_tenant(deployment, tenants, tmp_path):
    """Of options or of a file; listed, shown, asked, removed; not there for the other."""
    one, two = tenants
    file = tmp_path / "poet.toml"
    file.write_text(
        'name = "poet"\nmodel = "scripted/echo"\nsystem_prompt = "Rhyme."\n'
        '[limits]\nmax_turns = 3\n[[functions]]\nname = "look"\n'
    )
    assert deployment.cli("agent", "create", str(file), tenant=one).returncode == 0
    words = ("create", "clerk", "--model", "scripted/echo", "--tool", "calculator")
    assert deployment.cli("agent", *words, tenant=one).returncode == 0
    again = deployment.cli("agent", *words, tenant=one)
    assert again.returncode == 8
    assert "clerk" in again.stderr
    assert deployment.cli("agent", *words, "--replace", tenant=one).returncode == 0
    listed = deployment.cli("agent", "list", tenant=one).stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["agent", "clerk", "poet"]
    poet = deployment.cli_json("agent", "show", "poet", tenant=one)
    assert poet["spec"]["limits"]["max_turns"] == 3
    assert "Rhyme." in deployment.cli("agent", "show", "poet", tenant=one).stdout
    done = deployment.cli("agent", "run", "clerk", "-", stdin="from stdin", tenant=one)
    assert done.stdout == "from stdin\n"
    assert deployment.cli("agent", "run", "clerk", "x", tenant=two).returncode == 5
    assert deployment.cli_json("agent", "list", tenant=two) == []
    assert deployment.cli("agent", "delete", "clerk", tenant=two).returncode == 0
    assert deployment.cli_json("agent", "delete", "clerk", tenant=one) == {"deleted": True}


WRONG = {
    ("run", "no-such/m", "x"): 5,
    ("run", "nobody", "x", "--tool", "calculator"): 2,
    ("run", "scripted/echo", " "): 6,
    ("run", "absent.toml", "x"): 2,
    ("run", "scripted/echo", "x", "--image", "absent.png"): 2,
    ("show", "nobody"): 5,
}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_what_is_wrong_has_its_exit_code(deployment, tenants, words):
    """And one sentence."""
    done = deployment.cli("agent", *words, tenant=tenants[0])
    assert done.returncode == WRONG[words], done.stderr
    assert done.stdout == ""
    assert done.stderr


def test_a_talk_through_a_pipe(deployment, tenants):
    """Each line is a message of one conversation; commands are obeyed; it may be JSON."""
    lines = "one\ntwo\n:messages\n:nonsense\n:new\n:messages\n:quit\nlate\n"
    done = deployment.cli("agent", "chat", "scripted/echo", stdin=lines, tenant=tenants[0])
    assert done.returncode == 1  # :nonsense
    said, words = ["user: one", "assistant: one", "user: two", "assistant: two"], ["one", "two"]
    assert done.stdout.splitlines() == words + said
    assert ":nonsense is not a command" in done.stderr
    talk = ("agent", "chat", "scripted/echo", "--conversation", "kept")
    done = deployment.cli(*talk, "--json", stdin="a\nb\n", tenant=tenants[0])
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["a", "b"]
    done = deployment.cli(*talk, stdin=":messages\n", tenant=tenants[0])
    assert done.stdout.splitlines()[0] == "user: a"
    assert deployment.cli(*talk, stdin=":messages\n", tenant=tenants[1]).stdout == ""


def test_a_person_talks_with_an_agent(deployment, tmp_path):
    """An answer that takes too long is broken off, the talk goes on, and Ctrl-D leaves."""
    words = ("agent", "chat", "scripted/inline", "--base-url", SLOW_URL)
    terminal = Terminal(deployment, tmp_path / "history", *words)
    try:
        terminal.wait_for(b"you>")
        terminal.type(b"hello" + ENTER)
        terminal.interrupt(b"you>")
        terminal.type(b":cost" + ENTER)
        terminal.wait_for(b"$0.000000 so far")
        assert terminal.end(CTRL_D) == 0
        assert "hello" in (tmp_path / "history").read_text()
    finally:
        terminal.close()
