"""What a script's process holds, read from outside while it runs: one socket, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import grpc
import pytest
from llmspell.v1 import script_pb2, script_pb2_grpc

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may look into a process that is not dumpable"
)

LOOP = "print('running') while true do end"


@pytest.fixture(scope="module")
def worker(deployment):
    """The process of a script that is running now."""
    channel = grpc.insecure_channel(deployment.address)
    metadata = (("authorization", f"Bearer {deployment.keys['acme']}"),)
    request = script_pb2.RunScriptRequest(source=LOOP)
    stub = script_pb2_grpc.ScriptServiceStub(channel)
    run = stub.RunScript(request, metadata=metadata, timeout=60)
    for event in run:
        if event.WhichOneof("event") == "output":
            break
    yield _busiest(deployment.pid("runtime"))
    run.cancel()
    channel.close()


def _busiest(ancestor: int) -> Path:
    """The descendant of the runtime that burns processor time: the script that loops."""
    candidates = [pid for pid in _processes() if ancestor in _ancestors(pid)]
    before = {pid: _ticks(pid) for pid in candidates}
    time.sleep(0.3)
    used = {pid: _ticks(pid) - ticks for pid, ticks in before.items()}
    return Path(f"/proc/{max(used, key=lambda pid: used[pid])}")


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["?", "0", *["0"] * 20]


def _ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        pid = int(_stat(pid)[1])
        found.append(pid)
    return found


def _ticks(pid: int) -> int:
    return int(_stat(pid)[11])


def test_one_socket(worker):
    """Its only open file is a socket."""
    files = [str(entry.readlink()) for entry in (worker / "fd").iterdir()]
    assert len(files) == 1
    assert files[0].startswith("socket:")


def test_no_environment(worker, deployment):
    """Its environment is empty: no key, no path, no address."""
    assert (worker / "environ").read_bytes().strip(b"\0") == b""


def test_no_grpc_and_no_protobuf(worker):
    """Neither gRPC nor protobuf, LMDB, numpy or a model is mapped into it."""
    mapped = (worker / "maps").read_text()
    assert "lupa" in mapped
    for library in ("cygrpc", "grpc", "protobuf", "_upb", "lmdb", "numpy", "usearch", "onnx"):
        assert library not in mapped


def test_no_data_folder(worker, deployment):
    """Nothing of the deployment's folder is mapped, opened, or its working directory."""
    folder = str(deployment.data)
    assert folder not in (worker / "maps").read_text()
    assert folder not in str((worker / "cwd").readlink())
    assert folder.encode() not in (worker / "cmdline").read_bytes()


def test_no_secret_in_its_memory(worker, deployment):
    """Neither the operator's key, nor a tenant's, nor the context key is in its address space."""
    secrets = [deployment.operator_key, *deployment.keys.values()]
    secrets.append((deployment.data / "secrets" / "context.key").read_text().strip())
    needles = [secret.encode() for secret in secrets] + [bytes.fromhex(secrets[-1])]
    searched = 0
    for chunk in _memory(worker):
        searched += len(chunk)
        for needle in needles:
            assert needle not in chunk
    assert searched > 1_000_000


def _memory(worker: Path):
    with (worker / "mem").open("rb", 0) as memory:
        for line in (worker / "maps").read_text().splitlines():
            fields = line.split()
            if "r" not in fields[1] or fields[-1] in {"[vvar]", "[vsyscall]", "[vvar_vclock]"}:
                continue
            start, end = (int(part, 16) for part in fields[0].split("-"))
            memory.seek(start)
            try:
                yield memory.read(end - start)
            except OSError:
                continue


def test_limits_of_the_process(worker):
    """It may open no file, start no process, write no file and dump no core."""
    limits = (worker / "limits").read_text()
    for name in ("Max open files", "Max processes", "Max file size", "Max core file size"):
        [line] = [line for line in limits.splitlines() if line.startswith(name)]
        assert line.removeprefix(name).split()[0] == "0", line
