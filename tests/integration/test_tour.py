"""What a newcomer sees first: `make run`."""

from __future__ import annotations

import os
import re
import subprocess
import sys

QUESTIONS = ("one tenant kept away", "acknowledged write", "loops for ever")


def test_the_tour_finds_the_right_passages_and_leaves_nothing():
    """Each question's first passage is from the page that answers it; nothing keeps running."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LLMSPELL")}
    command = [sys.executable, "-m", "services.gateway.cli.tour"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, env=clean
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for question in QUESTIONS:
        after = done.stdout[done.stdout.index(question) :]
        first = re.search(r"0\.\d\d {2}(\S+)", after)
        assert first is not None
        assert first[1] == "docs/guide/questions.md", question
    assert "globex finds 0 passages and no state" in done.stdout
    assert "state read back: 3 questions asked" in done.stdout
    pids = [int(pid) for pid in re.findall(r"pid (\d+)", done.stdout)]
    assert len(pids) >= 6
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110
