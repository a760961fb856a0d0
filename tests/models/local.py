"""The real model that tests speak to: llama.cpp's server in a process of its own, on loopback.

One server a pytest process, started at the first use (half a second, 300 MB). What it says is
poor and may change with llama.cpp: tests claim what the protocol promises, never what was said.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from services.runtime.providers.local_model import MODEL, missing
from tests.house import tree

READY_S = 60


@dataclass(frozen=True)
class LocalModel:
    """Where the model is."""

    base_url: str
    """Ends in `/v1`; what `openai.OpenAI(base_url=…)` wants."""
    pid: int
    model: str = MODEL

    def busy(self) -> int:
        """Conversations that are being answered now."""
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/slots") as answer:
            return sum(slot["is_processing"] for slot in json.load(answer))

    def until_idle(self, within_s: float) -> bool:
        """Whether all slots are free within that time."""
        end = time.monotonic() + within_s
        while self.busy():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True


@contextmanager
def serving(*words: str) -> Iterator[LocalModel]:
    """Run the server until the block ends; it cannot outlive this process."""
    command = [sys.executable, "-m", "services.runtime.providers.local_model"]
    child = subprocess.Popen(
        [*command, "--port", "0", "--threads", "1", "--end-with-parent", *words],
        cwd=tree.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        base_url = child.stdout.readline().strip()
        assert base_url.startswith("http://127.0.0.1:"), "the local model did not start"
        yield LocalModel(base_url, child.pid)
    finally:
        child.terminate()
        child.wait(READY_S)
        child.stdout.close()


@pytest.fixture(scope="session")
def local_model() -> Iterator[LocalModel]:
    """A real model, shared by the tests of this process; they skip where it is not installed."""
    absent = missing()
    if absent:
        pytest.skip(absent)
    with serving() as model:
        yield model
