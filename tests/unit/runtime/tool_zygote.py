"""A zygote of tools whose one tool does as it is told, as a stranger who took it over would."""

import ctypes
import os
import socket
import subprocess
import time

from services.runtime.frames import Kind, pack
from services.runtime.toolbox.model import Level, Need, Outcome, Tool, ToolLimits, parameters
from services.runtime.toolbox.one import run_one
from services.runtime.worker import zygote

# Loaded before the jail, as a stranger in a worker would find it loaded.
LIBC = ctypes.CDLL(None, use_errno=True)


def _run(arguments, desk):
    known = {
        "subprocess": subprocess,
        "os": os,
        "socket": socket,
        "time": time,
        "libc": LIBC,
        "desk": desk,
    }
    known |= {"Kind": Kind, "pack": pack}
    exec(arguments["source"], known)
    return Outcome(result=known.get("result"))


def _tool(name, *needs):
    return Tool(
        name=name,
        description="Does as it is told.",
        category="test",
        level=Level.SAFE,
        parameters=parameters(("source",), source={"type": "string"}),
        result={},
        run=_run,
        needs=frozenset(needs),
        limits=ToolLimits(wall_s=30.0, cpu_s=1, memory_bytes=64 << 20, file_bytes=1 << 20),
    )


TOOLS = {
    tool.name: tool
    for tool in (
        _tool("obey"),
        _tool("obey-with-files", Need.FILES),
        _tool("obey-with-network", Need.NETWORK),
        _tool("obey-with-programs", Need.FILES, Need.PROGRAMS),
    )
}


def main(control_fd):
    """Serve like the real one."""
    sock = socket.socket(fileno=control_fd)
    zygote.serve(sock, lambda worker: run_one(worker, TOOLS), jailed=False)
