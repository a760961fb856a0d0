"""Do the examples of the page on agents run, as they stand, on a real deployment?"""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guide" / "agents.md"
SCRIPTS = ("agent.lua", "agents_together.lua")


def blocks(kind):
    """The page's blocks of a language; test_lua_on_pages.py runs the Lua."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_python_of_the_page_runs(deployment, monkeypatch, capsys):
    """Its asserts hold, and what it prints is what the agent said."""
    for name, value in deployment.environment(deployment.tenant("agent-page")).items():
        monkeypatch.setenv(name, value)
    (block,) = blocks("python")
    exec(compile(block, str(PAGE), "exec"), {})
    assert "Order 17 is on its way." in capsys.readouterr().out


def test_the_commands_of_the_page_run(deployment):
    """Each ends well, and says what the page promises."""
    printed = []
    for line in (line for block in blocks("sh") for line in block.splitlines()):
        done = deployment.cli(*shlex.split(line)[1:], tenant=deployment.tenant("agent-page"))
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    said, _, listed, shown, told, _ = printed
    assert said == "Say this.\n"
    assert "greeter" in listed
    assert "Repeats." in shown
    assert '"text": "Hello."' in told


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_script_runs(deployment, name):
    """On the scripted provider, offline; it says so itself where something is wrong."""
    for tenant in ("agent-page", "agent-other"):
        file = str(ROOT / "examples" / name)
        done = deployment.cli("run", file, tenant=deployment.tenant(tenant))
        assert done.returncode == 0, done.stderr
        assert "all is well" in done.stdout
