"""Memory stays flat while artifacts leave and come back, however large they are."""

import subprocess
import sys

import pytest

from tests.crash import scale
from tests.crash.recorder import ROOT

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

SIZE_MIB = scale.count(100, 1024)
GROWN_MIB_MAX = 40


def test_a_large_artifact_goes_and_comes_in_pieces(tmp_path, reached):
    """Exporting and importing it takes a small part of its size."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.export_story", str(tmp_path), str(SIZE_MIB)],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr.decode()
    before, after = map(int, done.stdout.split())
    assert after - before < GROWN_MIB_MAX
    words = f"{SIZE_MIB} MiB there and back: {after - before} MiB more memory"
    reached("T10", "state: a large artifact's export", f"under {GROWN_MIB_MAX} MiB", words, "")
