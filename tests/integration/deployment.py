"""Starts the real four processes for tests, as a user would: `llmspell up`."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from llmspell import Client

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
PORTS_FROM, PORTS_EACH = 14_000, 1_000
_PORT_NUMBERS = itertools.count(os.getpid() % PORTS_EACH)  # another run may be on this machine


@dataclass
class Deployment:
    """Four running processes, and two tenants that must never meet."""

    process: subprocess.Popen[str]
    data: Path
    address: str
    profile: Path
    operator_key: str
    http_address: str = ""
    """Where it takes calls by HTTP; empty: nowhere."""
    keys: dict[str, str] = field(default_factory=dict)
    """A writer's key of each tenant."""

    def pid(self, name: str) -> int:
        """A process's id now."""
        return json.loads((self.data / "run.json").read_text())[name]["pid"]

    def kill(self, name: str) -> None:
        """End the process that serves now; for a moment the one before it may still be named."""
        for _ in range(100):
            try:
                os.kill(self.pid(name), signal.SIGKILL)
            except ProcessLookupError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError(f"no {name} process runs")

    def inner_address(self, name: str) -> str:
        """Where a process listens, past the gateway."""
        return json.loads((self.data / "run.json").read_text())[name]["address"]

    def environment(self, tenant: str | None = None) -> dict[str, str]:
        """For commands that are to reach it; as a tenant, or as the operator."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("LLMSPELL")}
        clean["LLMSPELL_PROFILE"] = str(self.profile)
        clean["COLUMNS"] = "100"
        if tenant is not None:
            clean |= {"LLMSPELL_ADDRESS": self.address, "LLMSPELL_API_KEY": self.keys[tenant]}
        return clean

    def tenant(self, name: str) -> str:
        """A tenant that a test module has to itself, with a key; its name."""
        if name not in self.keys:
            with Client(self.address, self.operator_key) as operator:
                operator.create_tenant(name)
                self.keys[name] = operator.create_key(name).key
        return name

    def key_for(self, tenant: str) -> None:
        """Make a key for a tenant that is there."""
        self.keys[tenant] = self.cli_json("key", "create", "--tenant", tenant)["key"]

    def cli(self, *arguments: str, tenant: str | None = None, stdin: str | None = None):
        """Run `llmspell …`."""
        return subprocess.run(
            [sys.executable, "-m", "services.gateway.cli.main", *arguments],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            input=stdin,
            env=self.environment(tenant),
        )

    def cli_json(self, *arguments: str, tenant: str | None = None):
        """Run `llmspell … --json` and read what it printed."""
        done = self.cli(*arguments, "--json", tenant=tenant)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def free_port() -> int:
    """A port that nobody has, nor gets from here again for a long time.

    A process that is killed and started again keeps its port in between: no other test may be given
    it then, so each worker of the test run has a thousand ports of its own, below those that the
    kernel hands out.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for number in _PORT_NUMBERS:
        port = PORTS_FROM + PORTS_EACH * worker + number % PORTS_EACH
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable: the numbers do not end")


@contextmanager
def deployed(
    folder: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> Iterator[Deployment]:
    """`llmspell up` in a folder of its own, with the tenants acme and globex."""
    data, profile, port = folder / "data", folder / "profile.toml", free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLMSPELL")}
    environment["LLMSPELL_PROFILE"] = str(profile)
    environment |= variables or {}
    command = [sys.executable, "-m", "services.gateway.cli.main", "up"]
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--data", str(data), "--port", str(port), *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
    try:
        _wait_for(profile, process, folder)
        key = (data / "secrets" / "operator.key").read_text().strip()
        up = Deployment(process, data, f"127.0.0.1:{port}", profile, key)
        for tenant in ("acme", "globex"):
            up.tenant(tenant)
        yield up
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _wait_for(file: Path, process: subprocess.Popen[str], folder: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not file.exists():
        assert process.poll() is None, (folder / "up.log").read_text()
        assert time.monotonic() < deadline, (folder / "up.log").read_text()
        time.sleep(0.02)
