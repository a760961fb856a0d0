"""What the workflow commands show: trees of steps, seconds, costs, files."""

import io
from datetime import UTC, datetime, timedelta

import pytest
import typer
from llmspell.types import ExecutionEvent, ExecutionFailure, Spent, StepResult, WorkflowResult
from rich.console import Console

from services.gateway.cli import workflow_pages as pages
from services.gateway.cli.workflow_files import is_file, read_file

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def step(path, kind="tool", status="completed", *, ms=5, **fields):
    """A step that took so long."""
    fields |= {"start_time": BEGAN, "end_time": BEGAN + timedelta(milliseconds=ms)}
    return StepResult(path, path.rpartition("/")[2], kind, status, **fields)


def printed(tree):
    """A tree as text."""
    out = io.StringIO()
    Console(file=out, width=100, color_system=None).print(tree, soft_wrap=True)
    return out.getvalue()


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("fetch", ["fetch"]),
        ("left/check", ["left", "check"]),
        ("each#2/say", ["each", "#2", "say"]),
        ("#1/in", ["#1", "in"]),
        ("a/b#10/c", ["a", "b", "#10", "c"]),
    ],
)
def test_parts_of_a_path(path, parts):
    """Branches, iterations and workflows within each have a place of their own."""
    assert pages.parts_of(path) == parts


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, ""), (0.004, "4 ms"), (0.9996, "1000 ms"), (1.25, "1.2 s"), (61, "1 min 1 s")],
)
def test_seconds_for_people(seconds, told):
    """In the unit that suits them."""
    assert pages.show_seconds(seconds) == told


def test_a_cost_is_told_where_a_model_was_asked():
    """Nothing otherwise; an estimate says so."""
    assert pages.show_cost(Spent(tool_calls=3)) == ""
    asked = Spent(input_tokens=1000, output_tokens=200, cost_usd=0.0123, model_calls=1)
    assert pages.show_cost(asked) == "$0.0123, 1,200 tokens"
    about = Spent(cost_usd=1.0, estimated=True, model_calls=1)
    assert pages.show_cost(about).startswith("about $1.0000")


def test_an_output_is_cut_and_cleaned():
    """One line, without what could command a terminal."""
    assert pages.brief({"a": [1, "x"]}) == '{"a": [1, "x"]}'
    assert pages.brief("two\nlines\x1b[2J") == "two lines\N{REPLACEMENT CHARACTER}[2J"
    assert len(pages.brief("x" * 500)) == 80


STEPS = (
    step("squares", "workflow", output=[1, 4]),
    step("squares#1/square", output=1, attempts=2),
    step("squares#2/square", output=4, input={"n": 2}),
    step("ask", "agent", output="hi", spent=Spent(input_tokens=7, cost_usd=0.5, model_calls=1)),
    step(
        "bad", status="failed", failure=ExecutionFailure("TOOL_FAILED", "No luck.", {"tool": "t"})
    ),
    step("bad~undo", "function", output="undone", is_compensation=True),
    step("later", status="skipped"),
)
RESULT = WorkflowResult(
    "wf_1", "all", "sequential", success=False, status="failed", steps=STEPS, elapsed_s=1.5,
    failure=ExecutionFailure("WORKFLOW_STEP_FAILED", "The step bad failed."),
)  # fmt: skip


def test_the_tree_of_a_run():
    """Each step under what it is a part of, with its status, time, cost, tries and result."""
    lines = printed(pages.tree_of(RESULT)).splitlines()
    assert lines[0] == "✘ all sequential  1.5 s  The step bad failed."
    assert lines[1] == "├── ✔ squares workflow  5 ms"
    assert lines[2].endswith("#1")
    assert lines[3].endswith("✔ square tool  5 ms  2 tries  1")
    assert lines[5].endswith("✔ square tool  5 ms  4")
    assert "✔ ask agent  5 ms  $0.5000, 7 tokens  hi" in lines[6]
    assert lines[7].endswith("✘ bad tool  5 ms  No luck.")
    assert "(undone) function" in lines[8]
    assert lines[9].startswith("└── - later tool")


def test_the_whole_of_each_step():
    """With `full`: inputs, outputs, and what a failure knows."""
    text = printed(pages.tree_of(RESULT, full=True))
    for told in ('input {"n": 2}', "output 4", "output [1, 4]", "output hi", "tool t"):
        assert told in text, told


def test_steps_are_told_as_they_end(capsys):
    """Where nobody watches a terminal: a line for each end, nothing for a begin."""
    with pages.Steps("w") as hear:
        for kind, one in (("step_started", STEPS[1]), ("step_ended", STEPS[1])):
            hear(ExecutionEvent(1, one.path, BEGAN, kind, step=one))
        hear(ExecutionEvent(2, "ask", BEGAN, "text", text="hi"))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["✔ squares#1/square tool  5 ms"]


def test_files_are_told_by_their_name(tmp_path, monkeypatch):
    """TOML, JSON, YAML; another file is YAML; what is no file is a registered name."""
    written = {
        "a.toml": 'name = "w"', "a.json": '{"name": "w"}', "a.yaml": "name: w", "plain": "name: w",
    }  # fmt: skip
    for name, text in written.items():
        (tmp_path / name).write_text(text)
        assert read_file(str(tmp_path / name)) == {"name": "w"}
        assert is_file(str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    assert is_file("plain")
    assert not is_file("report")
    assert is_file("absent.yaml")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b"{", "cannot be read"),
        ("a.toml", b"a =", "cannot be read"),
        ("a.yaml", b"a: [", "cannot be read"),
        ("a.yaml", b"- a", "must be a mapping"),
        ("a.yaml", b"\xff", "not UTF-8"),
        ("a.json", b" " * 600_000, "larger than"),
        ("absent.json", None, "No such file"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, name, data, message):
    """With the file's name, and why."""
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(typer.BadParameter, match=message):
        read_file(str(tmp_path / name))
