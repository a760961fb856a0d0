"""Do the Lua examples on the pages run, as they stand, on a real deployment?"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LUA = re.compile(r"^```lua\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = (
    "README.md",
    "docs/guide/scripts.md",
    "docs/guide/jail.md",
    "docs/guide/tools.md",
    "docs/guide/agents.md",
    "docs/guide/costs.md",
    "docs/guide/hooks.md",
    "docs/reference/lua.md",
    "docs/guide/backups.md",
    "docs/guide/state.md",
    "docs/guide/sessions.md",
    "docs/guide/artifacts.md",
    "docs/guide/files.md",
    "docs/guide/tools-network.md",
    "docs/guide/workflows.md",
    "docs/guide/providers.md",
)


def examples():
    """Each Lua block of the pages, with an id that says where it stands."""
    for page in PAGES:
        blocks = re.findall(
            r"^```lua\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
        for number, block in enumerate(blocks, 1):
            yield pytest.param(block, id=f"{page}-{number}")


@pytest.mark.parametrize("block", list(examples()))
def test_an_example_runs(deployment, tmp_path, block):
    """A Lua block of a page runs without an error; what it promises in `-->` is printed."""
    deployment.cli(
        "exec", 'RAG.ingest({id = "seed", text = "Tenants are kept apart."})', tenant="acme"
    )
    script = tmp_path / "example.lua"
    script.write_text(block)
    done = deployment.cli("run", str(script), tenant="acme")
    assert done.returncode == 0, done.stderr
    for promised in re.findall(r"--> ([A-Z_]+)", block):
        assert promised in done.stdout
