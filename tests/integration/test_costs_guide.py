"""Do the examples of the page on costs run, as they stand, on a real deployment?"""

import re
import shlex
from pathlib import Path

from services.runtime.money.prices import read_prices

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "costs.md"


def blocks(kind):
    """The page's blocks of a language; test_lua_on_pages.py runs the Lua."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_python_of_the_page_runs(deployment, monkeypatch, capsys):
    """From top to bottom, as one program; it prints budgets and what things would cost."""
    for name, value in deployment.environment(deployment.tenant("costs-page")).items():
        monkeypatch.setenv(name, value)
    exec(compile("".join(blocks("python")), str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    assert "agent:writer day 0.0 of 2.0" in printed
    assert re.search(r"^0\.0\S* likely, 0\.0\S* at most$", printed, re.MULTILINE)


def test_the_commands_of_the_page_run(deployment):
    """Each ends well; the budget that was set is listed."""
    printed = []
    for line in (line for block in blocks("sh") for line in block.splitlines()):
        done = deployment.cli(*shlex.split(line)[1:], tenant=deployment.tenant("costs-page"))
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert any("agent:researcher" in text and "$20.00" in text for text in printed)


def test_the_prices_of_the_page_are_read(tmp_path):
    """The file that it shows is one."""
    (tmp_path / "prices.toml").write_text(*blocks("toml"))
    assert set(read_prices(str(tmp_path / "prices.toml"))) == {"openai/gpt-4o-mini", "house/*"}
