"""Callers that are too much, or silent, or never read: the public port goes on, and stays small.

Counts are small by default; LLMSPELL_FLOOD_SCALE=20 takes the counts of the checklist (10 000
streams that are reset, 10 000 idle connections).
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from llmspell.v1 import script_pb2, script_pb2_grpc, state_pb2, state_pb2_grpc

from services.common.healthcheck import check
from services.common.limits import CONNECTIONS_MAX
from tests.integration.deployment import free_port
from tests.integration.http2 import (
    CALM,
    END_HEADERS,
    HEADERS,
    PING,
    RST_STREAM,
    Connection,
    frame,
    headers,
)

SCALE = int(os.environ.get("LLMSPELL_FLOOD_SCALE", "1"))
GROWTH_BYTES = 64 * 1024 * 1024
"""How much more memory than before, at most."""


class Gateway:
    """A gateway alone: what is behind it is not there, and for floods need not be."""

    def __init__(self, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        (folder / "context.key").write_text(secrets.token_hex(32))
        settings = {
            "deployment.context_key_file": folder / "context.key",
            "gateway.listen": self.address,
        }
        settings |= {f"gateway.{name}": f"unix:{folder}/{name}" for name in ("runtime", "vector")}
        settings["gateway.state"] = f"unix:{folder}/state"
        arguments = [f"--set={name}={value}" for name, value in settings.items()]
        self._log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.gateway", *arguments], stderr=self._log
        )
        end = time.monotonic() + 60
        while check(self.address, timeout_s=1.0) != "SERVING":
            assert self.process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    def serves(self) -> bool:
        """Whether a caller who behaves is answered soon."""
        return check(self.address, timeout_s=2.0) == "SERVING"

    @property
    def resident_bytes(self) -> int:
        return resident(self.process.pid)

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


def resident(pid: int) -> int:
    """Memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """One for all floods."""
    made = Gateway(tmp_path_factory.mktemp("gateway"))
    yield made
    made.close()


def until(condition, seconds):
    """Wait until something holds; whether it did."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_silent_sockets_are_closed(gateway):
    """Hundreds of sockets that say nothing, or half of a greeting: ended within 5 s, all gone."""
    before = gateway.descriptors
    silent = [Connection(gateway.address, begun=False) for _ in range(500)]
    for connection in silent[::2]:
        connection.send(b"PRI * HTTP")
    assert gateway.serves()
    assert until(lambda: gateway.descriptors <= before + 2, 9.0), gateway.descriptors
    assert all(connection.is_ended(1.0) for connection in silent)
    for connection in silent:
        connection.close()


def test_a_ping_flood_ends_in_goaway(gateway):
    """A caller that pings without end is told to be calm, and its connection ends."""
    connection = Connection(gateway.address)
    for _ in range(200):
        if not connection.send(frame(PING, 0, 0, b"12345678") * 10):
            break
    assert connection.goaway(3.0) in {CALM, None}
    assert connection.is_ended(3.0)
    connection.close()
    assert gateway.serves()


def test_rapid_resets_cost_no_memory(gateway):
    """Streams that are opened and reset at once: CPU comes back, memory stays."""
    before = gateway.resident_bytes
    head = headers("/llmspell.v1.StateService/GetState")
    connections = [Connection(gateway.address) for _ in range(5)]
    for number in range(100 * SCALE):
        stream = 1 + 2 * number
        burst = frame(HEADERS, END_HEADERS, stream, head) + frame(
            RST_STREAM, 0, stream, b"\0\0\0\x08"
        )
        for connection in connections:
            connection.send(burst)
    assert gateway.serves()
    for connection in connections:
        connection.close()

    def is_quiet():
        used = gateway.cpu_s
        time.sleep(0.5)
        return gateway.cpu_s - used < 0.2

    assert until(is_quiet, 10.0)
    assert gateway.resident_bytes - before < GROWTH_BYTES


def test_idle_connections_are_cheap_and_bounded(gateway):
    """Many connections with nothing on them: others are served, memory stays, all are let go."""
    before, descriptors = gateway.resident_bytes, gateway.descriptors
    idle = [Connection(gateway.address) for _ in range(min(500 * SCALE, CONNECTIONS_MAX - 100))]
    assert gateway.serves()
    assert gateway.resident_bytes - before < GROWTH_BYTES * max(1, SCALE // 4)
    for connection in idle:
        connection.close()
    assert until(lambda: gateway.descriptors <= descriptors + 2, 10.0)


def test_streams_that_never_read_stay_small(deployment):
    """Runs that print without end to callers who take nothing: memory flat, a neighbour served."""
    pids = [deployment.pid(name) for name in ("gateway", "runtime")]
    before = [resident(pid) for pid in pids]
    source = "local line = string.rep('x', 65536) for _ = 1, 4000 do print(line) end"
    request = script_pb2.RunScriptRequest(source=source)
    metadata = (("authorization", f"Bearer {deployment.keys['acme']}"),)
    with grpc.insecure_channel(deployment.address) as channel:
        stub = script_pb2_grpc.ScriptServiceStub(channel)
        unread = [stub.RunScript(request, metadata=metadata) for _ in range(4)]
        time.sleep(1.0)
        done = deployment.cli("state", "list", tenant="globex")
        assert done.returncode == 0, done.stderr
        grown = [resident(pid) - size for pid, size in zip(pids, before, strict=True)]
        for call in unread:
            call.cancel()
    assert max(grown) < GROWTH_BYTES, grown


def test_large_messages_at_once_stay_bounded(deployment):
    """A tenant's largest values from many callers: memory returns, a neighbour is served."""
    pids = [deployment.pid(name) for name in ("gateway", "state")]
    before = [resident(pid) for pid in pids]
    value = state_pb2.Payload(json='"' + "x" * 900_000 + '"')

    def write(number):
        metadata = (("authorization", f"Bearer {deployment.keys['acme']}"),)
        with grpc.insecure_channel(deployment.address) as channel:
            stub = state_pb2_grpc.StateServiceStub(channel)
            for turn in range(2 * SCALE):
                request = state_pb2.SetStateRequest(
                    scope="custom:flood", key=f"{number}-{turn % 2}", value=value
                )
                stub.SetState(request, metadata=metadata, timeout=30)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for writer in writers:
        writer.start()
    done = deployment.cli("state", "list", tenant="globex")
    for writer in writers:
        writer.join()
    assert done.returncode == 0, done.stderr
    grown = [resident(pid) - size for pid, size in zip(pids, before, strict=True)]
    assert max(grown) < GROWTH_BYTES, grown
