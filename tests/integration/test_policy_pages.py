"""Do the examples of the pages on policies and on the audit log run, as they stand?"""

import re
import shlex
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide"


def blocks(page, kind):
    """A page's blocks of a language."""
    text = (GUIDE / page).read_text("utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["policies.md", "audit.md"])
def test_the_commands_of_the_page_run(deployment, monkeypatch, tmp_path, page):
    """In order, each ending well."""
    monkeypatch.chdir(tmp_path)
    for line in "".join(blocks(page, "sh")).splitlines():
        done = deployment.cli(*shlex.split(line, comments=True)[1:])
        assert done.returncode == 0, (line, done.stderr)


@pytest.mark.parametrize(
    ("page", "told"), [("policies.md", "allow_with_filters\n"), ("audit.md", "")]
)
def test_the_python_of_the_page_runs(deployment, monkeypatch, capsys, page, told):
    """And prints what it says."""
    for name, value in deployment.environment().items():
        monkeypatch.setenv(name, value)
    (block,) = blocks(page, "python")
    exec(compile(block, page, "exec"), {})
    assert capsys.readouterr().out.endswith(told)
