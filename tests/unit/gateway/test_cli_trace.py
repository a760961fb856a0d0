"""`llmspell trace`: files of spans as lists and trees, also where files are damaged or forged."""

import json

import pytest
from typer.testing import CliRunner

from services.gateway.cli.main import app

RUNNER = CliRunner()
MS = 1_000_000
A, B = "a" * 32, "b" * 32


def span(span_id, parent="", *, trace=A, begin=0, end=10, process="gateway", **more):
    """A line of a file."""
    line = {
        "trace_id": trace,
        "span_id": span_id,
        "parent_id": parent,
        "process": process,
        "name": f"llmspell.v1.StateService/{span_id}",
        "kind": "server",
        "begin_ns": 10**18 + begin * MS,
        "end_ns": 10**18 + end * MS,
        "error": "",
        "attributes": {"llmspell.tenant": "acme", "llmspell.request_id": f"req-{trace[0]}"},
    }
    return line | more


@pytest.fixture
def folder(tmp_path):
    """Writes lines into the file of a process."""

    def write(*lines, name="gateway.jsonl"):
        text = "".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in lines)
        (tmp_path / name).write_text(text)
        return str(tmp_path)

    return write


def trace(*arguments):
    return RUNNER.invoke(app, ["trace", *arguments])


def test_a_tree_over_several_files(folder):
    """Children below their parents in the order in which they began, with bars in their place."""
    folder(span("root", end=100), span("late", "root", begin=50, end=100))
    folder(span("early", "root", begin=0, end=50, process="runtime"), name="runtime.jsonl")
    where = folder(span("inner", "early", begin=25, end=50, process="state"), name="state.1.jsonl")
    shown = trace("show", A[:6], "--folder", where)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        f"trace {A}  100.0 ms  4 spans in 3 processes",
        "request req-a  tenant acme",
        " 100.0 ms ████████████████████ gateway StateService/root",
        "  50.0 ms ██████████··········   runtime StateService/early",
        "  25.0 ms ·····█████··········     state StateService/inner",
        "  50.0 ms ··········██████████   gateway StateService/late",
    ]


def test_the_slow_and_the_failed_are_found(folder):
    """Slowest first; failed ones only where asked; of one tenant; so many."""
    where = folder(
        span("quick", begin=500, end=510),
        span("slow", trace=B, begin=0, end=900, error="INTERNAL"),
        span("other", trace="c" * 32, end=5, attributes={"llmspell.tenant": "globex"}),
    )

    def names(*arguments):
        done = trace("list", "--json", "--folder", where, *arguments)
        return [each["name"].rpartition("/")[2] for each in json.loads(done.stdout)]

    assert names("--slow") == ["slow", "quick", "other"]
    assert names()[0] == "quick"
    assert names("--failed") == ["slow"]
    assert names("--tenant", "globex") == ["other"]
    assert names("--slow", "--limit", "1") == ["slow"]
    shown = trace("list", "--folder", where).stdout
    assert "INTERNAL" in shown
    assert "900.0 ms" in shown


def test_a_request_names_its_trace(folder):
    """By its whole id, or by the beginning of it; what names several names none."""
    where = folder(span("x"), span("y", trace=A[:-1] + "b"), span("z", trace=B))
    assert trace("show", "req-b", "--folder", where).exit_code == 0
    assert trace("show", B, "--folder", where).exit_code == 0
    several = trace("show", "aaaa", "--folder", where)
    assert (several.exit_code, several.stdout) == (6, "")
    assert trace("show", "bb", "--folder", where).exit_code == 5


def test_part_of_a_trace_is_shown_as_far_as_it_is_there(folder):
    """Of a trace that was kept for being slow the parents may be missing."""
    where = folder(span("orphan", "nobody", end=300, process="state"))
    assert "state StateService/orphan" in trace("show", A, "--folder", where).stdout


def test_what_is_no_span_is_left_out(folder):
    """Half a line, other JSON, bytes; it is said, and the rest is shown."""
    bad = ['{"trace_id": "a', "\n", "[1, 2]\n", '{"trace_id": 5}\n', "\x00\x1b\n", "\n"]
    where = folder(span("x"), *bad, span("y", "x"))
    done = trace("list", "--folder", where)
    assert done.exit_code == 0
    assert "4 lines of it could not be read" in done.stderr
    assert "x" in done.stdout


def test_a_forged_file_cannot_hang_or_steer(folder):
    """Spans that are each other's parents, end before they begin, and name escapes."""
    where = folder(
        span("p", "q", name="\x1b[2Jcleared"),
        span("q", "p"),
        span("s", "s", begin=50, end=10),
        span("s", "s"),
    )
    done = trace("show", A, "--folder", where)
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 2 + 4


def test_no_folder_is_said(tmp_path, monkeypatch):
    """With where it would be, for those who run the processes elsewhere."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    done = trace("list")
    assert done.exit_code == 5
    assert "--folder" in done.stderr
    (tmp_path / "llmspell" / "traces").mkdir(parents=True)
    assert "No trace fits" in trace("list").stderr
