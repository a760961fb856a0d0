"""Do the examples of the page on backups run, as they stand? test_lua_on_pages.py runs the Lua."""

import re
import shlex
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "backups.md"


def blocks(kind):
    """The page's blocks of a language."""
    text = PAGE.read_text("utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_python_of_the_page_runs(deployment, monkeypatch, tmp_path, capsys):
    """A backup, and an export that an import would take back as it is; nothing is changed."""
    tenant = deployment.tenant("backup-page")
    for name, value in deployment.environment(tenant).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    deployment.cli("state", "set", "one", "1", tenant=tenant)
    (block,) = blocks("python")
    exec(compile(block, str(PAGE), "exec"), {})
    assert capsys.readouterr().out.endswith("0 records would change\n")


def test_the_commands_of_the_page_run(deployment, monkeypatch, tmp_path):
    """Backups are made, verified, restored and removed; a tenant becomes another one."""
    for tenant in ("backup-page", "backup-page-2"):
        deployment.tenant(tenant)
    deployment.cli("state", "set", "one", "1", tenant="backup-page")
    monkeypatch.chdir(tmp_path)
    backup = ""
    names = {"acme": "backup-page", "globex": "backup-page-2"}
    names["acme.tar"] = str(tmp_path / "acme.tar")
    for line in "".join(blocks("sh")).splitlines():
        words = shlex.split(line, comments=True)[1:]
        done = deployment.cli(*(backup if w == "BACKUP" else names.get(w, w) for w in words))
        assert done.returncode == 0, (line, done.stderr)
        backup = backup or done.stdout.split()[0]
    assert deployment.cli_json("state", "get", "one", tenant="backup-page-2")["value"] == 1
