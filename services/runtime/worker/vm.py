"""Builds the Lua VM of one run and hands the run to it.

What a script sees is made by the Lua files beside this one. The VM itself is stripped by
`prelude.lua`; the script's globals are a table of their own, and lupa's are emptied.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lupa import lua54

from services.runtime.frames import Kind, RunOrder, pack, receive
from services.runtime.worker.bridge import OUT_OF_MEMORY, Bridge

PARTS = (
    "prelude", "tree", "codec", "json", "call", "scope", "options", "filter", "rag", "rag_care",
    "state", "state_places", "state_batch", "state_backup", "state_migrate", "event", "session",
    "session_journal", "artifact", "args", "run",
)  # fmt: skip
"""The Lua files in the order in which they are loaded; later ones use earlier ones."""

_SOURCES = tuple(
    (f"=[llmspell {name}]".encode(), (Path(__file__).parent / "lua" / f"{name}.lua").read_bytes())
    for name in PARTS
)
"""Read in the zygote: a worker has no files."""

# Each part is called with the table they share. Only the entry of the last one comes back.
_BOOT = b"""
local host, seed, seed2 = ...
local kit = {host = host, seeds = {seed, seed2}}
local assert, load, select = assert, load, select
for i = 4, select("#", ...), 2 do
  local name, text = select(i, ...)
  assert(load(text, name, "t"))(kit)
end
return kit.prepare, kit.go
"""


_START_BYTES = 64 * 1024
"""The room a run must have to start at all: entering a full heap ends the process."""


def _deny(*_: object) -> None:
    raise AttributeError


def build(
    callback: Callable[[bytes, bytes], object], seeds: tuple[int, int]
) -> tuple[Any, Callable[..., None], Callable[[], None]]:
    """A fresh VM and its two entries: `prepare` takes the run, `go` runs it.

    Args:
        callback: The bridge; the only Python object that Lua holds, in closures no script reaches.
        seeds: What `math.random` starts from; workers forked in the same second share all else.
    """
    lua = lua54.LuaRuntime(
        encoding=None,
        register_eval=False,
        register_builtins=False,
        unpack_returned_tuples=True,
        attribute_handlers=(_deny, _deny),
        max_memory=0,
    )
    parts = [piece for part in _SOURCES for piece in part]
    prepare, go = lua.execute(_BOOT, callback, *seeds, *parts)
    return lua, prepare, go


def run_one(sock: socket.socket) -> None:
    """A worker's life: build, say ready, take one order, run it, end."""
    bridge = Bridge(sock)
    seeds = (_random_int(), _random_int())
    lua, prepare, go = build(bridge, seeds)
    sock.sendall(pack(Kind.READY))
    _, payload = receive(sock)
    order = RunOrder.parse(payload)
    limits: Any = order.header["limits"]
    base = lua.get_memory_used()
    # The order is pushed while the heap has no cap: pushing into a full one ends the process.
    name = str(order.header["name"]).encode()
    session = str(order.header.get("session", "")).encode()
    numbers = (limits["output_bytes"], limits["frame_bytes"], limits["depth"], limits["nodes"])
    prepare(order.source, name, order.arguments, bool(order.header["check"]), *numbers, session)
    memory_bytes = base + limits["memory_bytes"]
    if lua.get_memory_used() + _START_BYTES > memory_bytes:
        bridge.end(Kind.FAILURE, OUT_OF_MEMORY)
    bridge.limit(lua, memory_bytes=memory_bytes, frame_bytes=limits["frame_bytes"])
    try:
        go()
    except lua54.LuaMemoryError:
        bridge.end(Kind.FAILURE, OUT_OF_MEMORY)


def _random_int() -> int:
    return int.from_bytes(os.urandom(8), "little", signed=True)
