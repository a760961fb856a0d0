"""What the pages and examples say about the client, run against servers of the contract."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_deployment import KEY

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def run_python(address, tmp_path):
    """Run a program as a reader would, with address and key in the environment."""

    def run(*arguments):
        environment = {
            "PATH": "/usr/bin:/bin",
            "LLMSPELL_ADDRESS": address,
            "LLMSPELL_API_KEY": KEY,
            "XDG_CONFIG_HOME": str(tmp_path),
            "PYTHONIOENCODING": "utf-8",
        }
        done = subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_guide_runs_from_top_to_bottom(run_python):
    """The Python blocks of the guide run, one after the other, as they stand."""
    blocks = BLOCK.findall((ROOT / "docs/guide/client.md").read_text("utf-8"))
    assert len(blocks) == 9
    shown = run_python("-c", "".join(blocks))
    assert "REVISION_MISMATCH" in shown
    assert "kettle" in shown


def test_readme_runs(run_python, address):
    """The README's block runs with a real address and key."""
    (block,) = BLOCK.findall((ROOT / "clients/python/README.md").read_text("utf-8"))
    shown = run_python("-c", block.replace("127.0.0.1:50060", address).replace("llms_…", KEY))
    assert "RunOutput" in shown


@pytest.mark.parametrize("name", ["quickstart", "vectors"])
def test_example_runs(run_python, name):
    """Each example runs to its end."""
    assert run_python(str(ROOT / "examples" / f"{name}.py"))
