"""Does the example of two hundred pages run, as it stands, on a real deployment?"""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pages.py"


def test_the_example_runs_to_its_end(deployment):
    """Every command of it succeeds, the script's own asserts hold, and both tenants are gone."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=deployment.environment(),
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "200 documents in" in done.stdout
    assert "199 documents, " in done.stdout
    left = {tenant["tenant_id"] for tenant in deployment.cli_json("tenant", "list")}
    assert not left & {"library", "archive"}
