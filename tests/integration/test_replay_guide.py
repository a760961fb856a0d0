"""Do the examples of the page on replay run, as they stand, on a real deployment?"""

import re
import shlex
from pathlib import Path

from llmspell import Client

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "replay.md"


def blocks(kind):
    """The page's blocks of a language."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_python_of_the_page_runs(deployment, monkeypatch):
    """Its own asserts hold."""
    tenant = deployment.tenant("replay-guide")
    monkeypatch.setenv("LLMSPELL_ADDRESS", deployment.address)
    monkeypatch.setenv("LLMSPELL_API_KEY", deployment.keys[tenant])
    assert len(blocks("python")) == 1
    for block in blocks("python"):
        exec(compile(block, str(PAGE), "exec"), {})


def test_the_lua_of_the_page_runs(deployment):
    """As a script in a session."""
    tenant = deployment.tenant("replay-guide")
    with Client(deployment.address, deployment.keys[tenant]) as client:
        session = client.create_session("guide").session_id
        for block in blocks("lua"):
            list(client.run(block, session=session))


def test_the_commands_of_the_page_run(deployment, tmp_path):
    """Each does what it says, with a run that is there."""
    tenant = deployment.tenant("replay-guide-sh")
    (tmp_path / "demo.lua").write_text("print('hi')", "utf-8")
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 5
    for line in lines:
        words = [
            str(tmp_path / "demo.lua") if each == "demo.lua" else each
            for each in shlex.split(line)[1:]
        ]
        if "resume" not in words:  # there is none to resume
            done = deployment.cli(*words, tenant=tenant)
            assert done.returncode == 0, done.stderr
    with Client(deployment.address, deployment.keys[tenant]) as client:
        (run,) = client.list_runs()
        assert run.session_id == "nightly"
