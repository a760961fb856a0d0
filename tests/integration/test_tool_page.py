"""Do the examples of the page on tools run, as they stand, on a real deployment?"""

import re
import shlex
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "tools.md"


def blocks(kind):
    """The page's blocks of a language; test_lua_on_pages.py runs the Lua."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_python_of_the_page_runs(deployment, monkeypatch):
    """The client's block runs and its asserts hold; tests/unit/runtime executes the tool's."""
    for name, value in deployment.environment(deployment.tenant("tool-page")).items():
        monkeypatch.setenv(name, value)
    (client,) = (block for block in blocks("python") if "with Client()" in block)
    exec(compile(client, str(PAGE), "exec"), {})


def test_the_commands_of_the_page_run(deployment):
    """Each does what it says, for one tenant as for another."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 5
    printed = {}
    for name in ("tool-page", "tool-other"):
        for line in lines:
            done = deployment.cli(*shlex.split(line)[1:], tenant=deployment.tenant(name))
            assert done.returncode == 0, done.stderr
            assert printed.setdefault(line, done.stdout) == done.stdout
    listed, shown, encoded, decoded, alike = printed.values()
    assert "base64-encoder" in listed
    assert "variant" in shown
    assert "aGVsbG8=" in encoded
    assert '"output": "hello"' in decoded
    assert "0.7071" in alike
