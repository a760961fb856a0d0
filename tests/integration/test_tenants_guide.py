"""Do the examples of the page on tenants run, as they stand, on a real deployment?"""

import re
import shlex
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "tenants.md"


def blocks(kind):
    """The page's blocks of a language."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_page_run(deployment, tmp_path):
    """Each ends well, in their order; the receipt at the end says that nothing is left."""
    for line in (line for block in blocks("sh") for line in block.splitlines()):
        words = [
            str(tmp_path / word) if word == "plum-bundle" else word for word in shlex.split(line)
        ]
        done = deployment.cli(*words[1:])
        assert done.returncode == 0, (line, done.stderr)
    assert "nothing is left" in done.stderr


def test_the_python_of_the_page_runs(deployment, monkeypatch, capsys):
    """From top to bottom, as one program."""
    for name, value in deployment.environment().items():
        monkeypatch.setenv(name, value)
    exec(compile("".join(blocks("python")), str(PAGE), "exec"), {})
    assert capsys.readouterr().out == "active 1000 2.0 large\nnothing is left\n"
