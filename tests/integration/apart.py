"""The four processes as on four machines: mutual TLS over TCP, and a proxy between any two."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from llmspell import Client, LLMSpellError

from services.gateway.cli.authority import LOCAL_NAMES, Authority, write_pair
from tests.integration.deployment import free_port
from tests.integration.proxy import Proxy, Wires

NAMES = ("state", "vector", "runtime", "gateway")
CALLS = {"gateway": ("runtime", "vector", "state"), "runtime": ("vector", "state")}
CALLS["vector"] = ("state",)
EDGES = [(caller, called) for caller, many in CALLS.items() for called in many]
"""Every two processes that speak to each other."""
START_S = 90


@dataclass
class Apart:
    """Four processes, the ways between them, and two tenants."""

    folder: Path
    authority: Authority
    address: str
    operator_key: str
    ways: dict[tuple[str, str], Proxy]
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    modules: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What is run in place of `services.NAME`, with its arguments: a build with a flaw."""

    @property
    def ca_file(self) -> Path:
        """Whom clients trust."""
        return self.folder / "tls" / "ca.crt"

    def client(self, tenant: str = "", *, timeout_s: float = 5.0) -> Client:
        """As a tenant, or as the operator."""
        key = self.keys.get(tenant, self.operator_key)
        return Client(self.address, key, ca_file=self.ca_file, timeout_s=timeout_s)

    def pid(self, name: str) -> int:
        """A process's id."""
        return self.processes[name].pid

    def renew(self, name: str, **how) -> None:
        """A new certificate for a process."""
        days = how.pop("days", 30)
        pair = self.authority.issue(name, [name, *LOCAL_NAMES], days=days, **how)
        write_pair(self.folder / "tls" / name, pair, self.authority.pem)

    def log(self, name: str) -> list[dict]:
        """What a process has logged."""
        lines = (self.folder / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def kill(self, name: str) -> None:
        """End a process at once and start it again."""
        self.processes[name].kill()
        self.processes[name].wait()
        self.start(name)

    def heal(self) -> None:
        """All ways are as at first, and all processes go on."""
        for way in self.ways.values():
            way.heal()
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)

    def start(self, name: str) -> None:
        """Start a process."""
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    *self.modules.get(name, (f"services.{name}",)),
                    "--config",
                    self.folder / f"{name}.toml",
                ],
                stdout=log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if not k.startswith("LLMSPELL")},
            )


@contextmanager
def apart(
    folder: Path,
    *,
    modules: dict[str, tuple[str, ...]] | None = None,
    **settings: dict[str, object],
):
    """Start them, with the tenants acme and globex; more settings by table."""
    wires = Wires()
    up = _prepared(folder, wires, settings)
    up.modules |= modules or {}
    try:
        for name in NAMES:
            up.start(name)
        _until_serving(up)
        with up.client() as operator:
            for tenant in ("acme", "globex"):
                operator.create_tenant(tenant)
                up.keys[tenant] = operator.create_key(tenant).key
        yield up
    finally:
        up.heal()
        for process in up.processes.values():
            process.kill()
        for process in up.processes.values():
            process.wait()
        wires.close()


def _prepared(folder, wires, settings) -> Apart:
    folder.mkdir(exist_ok=True)
    ports = {name: free_port() for name in NAMES}
    ways = {edge: wires.proxy(f"127.0.0.1:{ports[edge[1]]}") for edge in EDGES}
    (folder / "context.key").write_text(secrets.token_hex(32))
    key = f"llms_operator_{secrets.token_urlsafe(32)}"
    (folder / "operator.key").write_text(key)
    (folder / "tls").mkdir()
    authority = Authority.make("a test's authority", days=30)
    authority.write(folder / "tls")
    up = Apart(folder, authority, f"127.0.0.1:{ports['gateway']}", key, ways)
    for name in NAMES:
        up.renew(name)
        _write_settings(up, name, ports[name], settings.get(name, {}))
    return up


def _write_settings(up, name, port, more) -> None:
    mine = up.folder / "tls" / name
    certificate = {"tls_certificate_file": mine / "tls.crt", "tls_key_file": mine / "tls.key"}
    shared = certificate | {"tls_ca_file": mine / "ca.crt"}
    shared["context_key_file"] = up.folder / "context.key"
    own: dict[str, object] = {"listen": f"127.0.0.1:{port}"}
    own |= {called: up.ways[name, called].address for called in CALLS.get(name, ())}
    if name == "gateway":
        own |= certificate | {"operator_key_file": up.folder / "operator.key"}
    else:
        own["data"] = up.folder / name
    tables = {"deployment": shared, name: own | more}
    lines = []
    for table, keys in tables.items():
        lines.append(f"[{table}]")
        for key, value in keys.items():
            plain = isinstance(value, int | float)
            lines.append(f"{key} = {str(value).lower() if plain else json.dumps(str(value))}")
    (up.folder / f"{name}.toml").write_text("\n".join(lines) + "\n")


def _until_serving(up: Apart) -> None:
    end = time.monotonic() + START_S
    while True:
        for name, process in up.processes.items():
            assert process.poll() is None, (up.folder / f"{name}.log").read_text()[-2000:]
        with suppress(LLMSpellError), up.client(timeout_s=2.0) as client:
            if all(process.status == "SERVING" for process in client.processes()):
                return
        assert time.monotonic() < end, {n: up.log(n)[-3:] for n in NAMES}
        time.sleep(0.05)
