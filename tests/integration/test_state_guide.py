"""Do the examples of the page on state run, as they stand, on a real deployment?"""

import re
import shlex
from pathlib import Path

from llmspell import Client

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "state.md"


def blocks(kind):
    """The page's blocks of a language."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_python_of_the_page_runs(deployment):
    """Every block runs after the one before it, and its own asserts hold."""
    tenant = deployment.tenant("guide")
    with Client(deployment.address, deployment.keys[tenant]) as client:
        names = {"client": client}
        assert len(blocks("python")) >= 6
        for block in blocks("python"):
            exec(compile(block, str(PAGE), "exec"), names)


def test_the_commands_of_the_page_run(deployment):
    """Every command but the one that does not end does what it says."""
    tenant = deployment.tenant("guide-sh")
    set_up = ["state", "set", "drafts/1", "x", "--scope", "session:b"]
    deployment.cli(*set_up, tenant=tenant)
    deployment.cli("state", "set", "plan", "x", "--scope", "session:a", tenant=tenant)
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 4
    for line in lines:
        arguments = shlex.split(line)[1:]
        if "watch" not in arguments:
            done = deployment.cli(*arguments, tenant=tenant)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("1 item ")
    listed = deployment.cli_json("state", "list", "--scope", "user:anna", tenant=tenant)
    assert [item["key"] for item in listed] == ["plan"]


def test_numbers_and_the_nearest_on_the_command_line(deployment):
    """Sums are exact, and the nearest scope answers."""
    tenant = deployment.tenant("guide-sh")
    for by, total in (("0.1", "0.1"), ("0.2", "0.3"), ("-0.3", "0.0"), ("2", "2.0")):
        done = deployment.cli("state", "increment", "n", by, tenant=tenant)
        assert (done.stdout.strip(), done.stderr) == (total, "")
    deployment.cli("state", "set", "tone", "dry", tenant=tenant)
    deployment.cli("state", "set", "tone", "warm", "--scope", "session:s", tenant=tenant)
    near = ("--component", "agent:a", "--session", "s")
    assert deployment.cli("state", "resolve", "tone", *near, tenant=tenant).stdout == "warm\n"
    assert deployment.cli("state", "resolve", "tone", tenant=tenant).stdout == "dry\n"
    assert deployment.cli("state", "resolve", "none", tenant=tenant).returncode == 5
