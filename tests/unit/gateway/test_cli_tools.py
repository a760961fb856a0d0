"""`llmspell tool` against servers of the contract: what it prints, where, and its exit codes."""

import json

import pytest
from typer.testing import CliRunner

from services.gateway.cli import tool_pages
from services.gateway.cli.main import app
from services.gateway.cli.output import ExitCode
from tests.fake_deployment import KEY, Deployment, serving


@pytest.fixture
def deployment():
    """What the fake servers share."""
    return Deployment()


@pytest.fixture
def run(deployment, tmp_path):
    """Run `llmspell tool …`; its result."""
    with serving(deployment) as address:
        env = {
            "LLMSPELL_ADDRESS": address,
            "LLMSPELL_API_KEY": KEY,
            "XDG_CONFIG_HOME": str(tmp_path),
            "COLUMNS": "100",
        }

        def invoke(*arguments, given=None):
            return CliRunner().invoke(app, ["tool", *map(str, arguments)], input=given, env=env)

        yield invoke


def sent(deployment):
    """The arguments of the last execution, as values."""
    fields = deployment.requests[-1].arguments.fields
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in fields.items()}


def test_tools_are_listed_by_category(run):
    """A category's name stands once; what cannot be executed says why."""
    done = run("list")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["category", "tool", "level", "what", "it", "does"]
    assert [line[0] for line in lines[1:]] == ["music", "sing", "voice"]
    assert lines[1][:3] == ["music", "hum", "safe"]
    assert "(not here: no voice)" in done.stdout
    assert [tool["name"] for tool in json.loads(run("list", "--json").stdout)] == [
        "hum", "sing", "shout",
    ]  # fmt: skip
    assert "shout" not in run("list", "--category", "music").stdout
    assert "hum" not in run("list", "sho").stdout
    assert run("list", "whisper").stderr == "There are no such tools.\n"


def test_categories_are_counted(run):
    """Each with the number of its tools."""
    assert run("categories").stdout.split() == ["category", "tools", "music", "2", "voice", "1"]
    assert json.loads(run("categories", "--json").stdout) == {"music": 2, "voice": 1}


def test_a_tool_is_shown(run):
    """Names, parameters with what must be given first, result, notes, an example."""
    done = run("show", "old_shout")
    lines = done.stdout.splitlines()
    assert lines[0] == "shout 1.2.3: Knows shout."
    assert lines[1:3] == ["category voice, level restricted", "also known as old_shout"]
    table = lines[lines.index("parameters") + 2 :]
    assert table[0].split() == ["input", "string", "must", "be", "given", "What", "to", "shout."]
    assert table[1].split(maxsplit=3) == ["times", "integer", "1", "So often. (at least 1)"]
    assert "list of string" in table[2]
    assert "It is loud." in lines
    assert lines[-1] == "llmspell tool exec shout input='…'"
    assert json.loads(run("show", "shout", "--json").stdout)["level"] == "restricted"
    assert run("show", "whisper").exit_code == ExitCode.NOT_FOUND


def test_a_result_is_set_out(run):
    """Short fields in a table, then long ones by themselves; how it went goes to stderr."""
    done = run("exec", "shout", "input=hi")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "field  value",
        'rows   [{"length": 2, "word": "hi"}]', "text   HI", "", "lines", "hi", "hi",
    ]  # fmt: skip
    assert done.stderr == "shout · Shouted · 250 ms\n"


def test_a_result_for_programs(run):
    """--raw is the bare result, --json is all of it."""
    assert json.loads(run("exec", "shout", "input=hi", "--raw").stdout)["text"] == "HI"
    told = json.loads(run("exec", "shout", "input=hi", "--json").stdout)
    assert (told["success"], told["result"]["text"], told["elapsed_s"]) == (True, "HI", 0.25)


def test_arguments_are_read_as_the_schema_says(run, deployment):
    """Text where text is wanted, JSON where it parses, text where it does not."""
    run("exec", "shout", "input=12", "times=3", "other=1.5", "word=a=b", "yes=true")
    assert sent(deployment) == {
        "input": "12", "times": 3, "other": 1.5, "word": "a=b", "yes": True,
    }  # fmt: skip


def test_arguments_come_from_json_and_files(run, deployment, tmp_path):
    """What is typed is stronger than a file, a file than --params; - is stdin."""
    file = tmp_path / "arguments.json"
    file.write_text('{"input": "file", "times": 2}')
    run("exec", "shout", "--params", '{"input": "params", "more": 1}', "--file", file, "times=5")
    assert sent(deployment) == {"input": "file", "more": 1, "times": 5}
    run("exec", "shout", "--file", "-", given='{"input": "stdin"}')
    assert sent(deployment) == {"input": "stdin"}
    run("exec", "shout", "input=hi", "--session", "s", "--timeout", 2)
    request = deployment.requests[-1]
    assert (request.session_id, request.timeout.seconds) == ("s", 2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["hi"], "NAME=VALUE"),
        (["=hi"], "NAME=VALUE"),
        (["--params", "[1]"], "must be a JSON object"),
        (["--params", "{"], "is not JSON"),
        (["--params", '{"a": NaN}'], "is not JSON"),
        (["--file", "no/such.json"], "cannot be read"),
    ],
)
def test_a_wrong_command_line_is_told(run, deployment, arguments, text):
    """Nothing is executed."""
    done = run("exec", "shout", *arguments)
    assert done.exit_code == ExitCode.USAGE
    assert text in " ".join(done.stderr.split())
    assert not deployment.calls["ExecuteTool"]


def test_failures_have_exit_codes(run):
    """1 where the answer is no, 6 where the arguments are unfit, 5 where there is no such tool."""
    done = run("exec", "shout", "input=why?")
    assert done.exit_code == ExitCode.PARTIAL
    assert "error: Questions are not shouted. (question)\n" in done.stderr
    done = run("exec", "shout")
    assert done.exit_code == ExitCode.INVALID
    assert "`llmspell tool show shout` shows its parameters." in done.stderr
    assert "error: input must be set." in done.stderr
    assert run("exec", "whisper", "input=hi").exit_code == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"enum": ["a", 1]}, "a | 1"),
        ({"type": ["string", "null"]}, "string or null"),
        ({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "number"}}]},
         "string or list of number"),
        ({"type": "array"}, "list"),
        ({}, "any"),
    ],
)  # fmt: skip
def test_types_have_words(rule, words):
    """A schema's type in a few words."""
    assert tool_pages.type_words(rule) == words


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (None, ""),
        ("text\nmore", "text\nmore\n"),
        (b"raw", "raw"),
        ([1, 2], "[\n  1,\n  2\n]\n"),
        ([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], "a  b\n1  x\n2  y\n"),
        ([{"a": 1}, {"b": 2}], '[\n  {\n    "a": 1\n  },\n  {\n    "b": 2\n  }\n]\n'),
    ],
)
def test_other_results_are_set_out(capsys, value, printed):
    """Lists of like records are tables; the rest is JSON, text is text, bytes are bytes."""
    tool_pages._show_result(value)
    assert capsys.readouterr().out == printed
