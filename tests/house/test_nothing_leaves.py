"""Does a process keep to itself what its libraries would tell?"""

import subprocess
import sys

from tests.house import tree

EMBED = """
import asyncio
from services.vector.embedding.local import LocalProvider
from services.vector.embedding.provider import LocalSettings

asyncio.run(LocalProvider(LocalSettings()).embed(["a"]))
"""


def test_the_local_model_writes_no_telemetry(tmp_path):
    """Without being told, onnxruntime keeps a device id and events in the home folder."""
    done = subprocess.run(
        [sys.executable, "-c", EMBED],
        cwd=tree.ROOT,
        env={"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == []
