"""Several gateways and runtimes over one vector and one state process, each to be ended at will."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from llmspell import Client

from services.common.healthcheck import check
from services.common.vitals import READY
from tests.integration.deployment import free_port

START_S = 60.0
STOP_S = 30.0


@dataclass
class Process:
    """One process of the cluster."""

    name: str
    """Which of the four it is."""
    address: str
    environment: dict[str, str]
    log: Path
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `wait` waits until it serves."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [sys.executable, "-m", f"services.{self.name}"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
            )

    def wait(self) -> None:
        """Wait until it is ready."""
        deadline = time.monotonic() + START_S
        while check(self.address, service=READY) != "SERVING":
            assert self.running is not None
            assert self.running.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.05)

    def stop(self) -> int:
        """End it as an operator does; its exit code."""
        assert self.running is not None
        self.running.send_signal(signal.SIGTERM)
        return self.running.wait(STOP_S)

    def kill(self) -> None:
        """End it at once."""
        assert self.running is not None
        self.running.kill()
        self.running.wait(STOP_S)

    def restart(self) -> None:
        """Stop it, and have it again."""
        assert self.stop() == 0, self.log.read_text()[-2000:]
        self.start()
        self.wait()


@dataclass
class Cluster:
    """Processes of all kinds, and two tenants that must never meet."""

    folder: Path
    processes: dict[str, list[Process]] = field(default_factory=dict)
    operator_key: str = ""
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def gateways(self) -> str:
        """Where clients call: all gateways."""
        return ",".join(process.address for process in self.processes["gateway"])

    @property
    def all(self) -> list[Process]:
        """Every process."""
        return [process for row in self.processes.values() for process in row]

    def client(self, tenant: str, **options: object) -> Client:
        """A client of a tenant that knows every gateway."""
        return Client(self.gateways, self.keys[tenant], **options)


def _environments(folder: Path, addresses: dict[str, list[str]]) -> dict[str, dict[str, str]]:
    secret = folder / "secrets"
    listed = {name: ",".join(row) for name, row in addresses.items()}
    shared = {k: v for k, v in os.environ.items() if not k.startswith("LLMSPELL")}
    shared |= {
        "LLMSPELL__DEPLOYMENT__CONTEXT_KEY_FILE": str(secret / "context_key"),
        "LLMSPELL__DEPLOYMENT__LAME_DUCK_S": "1.0",
        "LLMSPELL__DEPLOYMENT__UPSTREAM_WAIT_S": "60",
    }
    inner = {"vector": ("state",), "runtime": ("vector", "state"), "state": ()}
    made = {
        name: {f"LLMSPELL__{name.upper()}__{one.upper()}": listed[one] for one in called}
        | {f"LLMSPELL__{name.upper()}__DATA": str(folder / name)}
        for name, called in inner.items()
    }
    made["gateway"] = {
        f"LLMSPELL__GATEWAY__{one.upper()}": listed[one] for one in ("runtime", "vector", "state")
    } | {"LLMSPELL__GATEWAY__OPERATOR_KEY_FILE": str(secret / "operator_key")}
    return {name: shared | own for name, own in made.items()}


@contextmanager
def clustered(folder: Path, *, gateways: int = 3, runtimes: int = 3) -> Iterator[Cluster]:
    """The processes, with the tenants acme and globex."""
    (folder / "secrets").mkdir()
    operator_key = f"llms_operator_{secrets.token_urlsafe(32)}"
    (folder / "secrets" / "operator_key").write_text(operator_key)
    (folder / "secrets" / "context_key").write_text(secrets.token_hex(32))
    counts = {"state": 1, "vector": 1, "runtime": runtimes, "gateway": gateways}
    addresses = {
        name: [f"127.0.0.1:{free_port()}" for _ in range(count)] for name, count in counts.items()
    }
    cluster = Cluster(folder, operator_key=operator_key)
    for name, environment in _environments(folder, addresses).items():
        cluster.processes[name] = [
            Process(
                name,
                address,
                environment | {f"LLMSPELL__{name.upper()}__LISTEN": address},
                folder / f"{name}{number}.log",
            )
            for number, address in enumerate(addresses[name])
        ]
    try:
        for process in cluster.all:
            process.start()
        for process in cluster.all:
            process.wait()
        with Client(cluster.gateways, operator_key) as operator:
            for tenant in ("acme", "globex"):
                operator.create_tenant(tenant)
                cluster.keys[tenant] = operator.create_key(tenant).key
        yield cluster
    finally:
        for process in cluster.all:
            if process.running is not None and process.running.poll() is None:
                process.kill()
