"""Do the examples of the page on artifacts run, as they stand, on a real deployment?"""

import re
import shlex
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "artifacts.md"


def block(kind):
    """The page's one block of a language; test_lua_on_pages.py runs the Lua."""
    (found,) = re.findall(
        rf"^```{kind}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return found


def test_the_python_of_the_page_runs(deployment, monkeypatch, tmp_path):
    """The block's own asserts hold, and the copy is what was stored."""
    tenant = deployment.tenant("artifact-page")
    for name, value in deployment.environment(tenant).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python"), str(PAGE), "exec"), {})
    assert (tmp_path / "copy.txt").read_text() == "# Tides\n"


def test_the_commands_of_the_page_run(deployment, tmp_path):
    """Each does what it says, for one tenant; another sees nothing of it meanwhile."""
    tenant, other = deployment.tenant("artifact-page"), deployment.tenant("artifact-other")
    (tmp_path / "plan.txt").write_text("# Moon\n")
    lines = block("sh").splitlines()
    assert len(lines) == 6
    for line in lines:
        words = [
            str(tmp_path / word) if word == "copy.txt" else word for word in shlex.split(line)[1:]
        ]
        if "put" in words:
            words[words.index("plan.txt")] = str(tmp_path / "plan.txt")
        if "delete" in words:
            assert deployment.cli("artifact", "get", "plan.txt", tenant=other).returncode == 5
            done = deployment.cli(*words, tenant=other)
            assert done.stdout == "There was none.\n"
        done = deployment.cli(*words, tenant=tenant)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy.txt").read_text() == "# Moon\n"
    assert done.stdout == "1 artifact deleted.\n"
