"""One real process of the four, without a gateway: the test seals its calls itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.common.healthcheck import check
from tests.crash.recorder import ROOT
from tests.integration.deployment import free_port
from tests.servers import KEY

START_S_MAX = 60


@dataclass(frozen=True)
class Alone:
    """A process that serves."""

    process: subprocess.Popen[bytes]
    address: str
    began: float
    """When it was started, on the monotonic clock."""
    start_s: float
    """Until it was SERVING."""

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.kill()
        self.process.wait()


@contextmanager
def alone(
    name: str,
    folder: Path,
    *settings: str,
    environment: Mapping[str, str] = os.environ,
    flaw: str = "",
    address: str = "",
) -> Iterator[Alone]:
    """Start `services.NAME` over a folder; what is left of it at the end is killed.

    Args:
        name: One of the four; with a flaw always `state`.
        folder: Its data.
        settings: More of them, as `TABLE.KEY=VALUE`.
        environment: Of the process.
        flaw: One of `tests.crash.broken`, with its value, that is put in.
        address: Where it listens, if that matters.
    """
    key_file, address = folder.with_name("context.key"), address or f"127.0.0.1:{free_port()}"
    key_file.write_text(KEY.hex())
    values = [
        f"deployment.context_key_file={key_file}",
        f"{name}.data={folder}",
        f"{name}.listen={address}",
        *settings,
    ]
    module = ["tests.crash.broken", flaw] if flaw else [f"services.{name}"]
    command = [sys.executable, "-m", *module, *(f"--set={value}" for value in values)]
    began = time.monotonic()
    with folder.with_name(f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=dict(environment), stderr=log)
    try:
        _until_serving(process, address)
        yield Alone(process, address, began, time.monotonic() - began)
    finally:
        process.kill()
        process.wait()


def _until_serving(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + START_S_MAX
    while check(address, timeout_s=1) != "SERVING":
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < deadline, "it does not serve"
        time.sleep(0.02)
