"""Builds the Lua VM once, in the zygote; each worker runs one script in its own copy of it.

What a script sees is made by the Lua files beside this one. The VM itself is stripped by
`prelude.lua`; the script's globals are a table of their own, and lupa's are emptied. What belongs
to a run (seeds, limits, session, arguments, the globals that are off) comes with its order, so
two runs share nothing but what was there before any.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lupa import lua54

from services.runtime.frames import Kind, RunOrder, pack, receive
from services.runtime.worker import points
from services.runtime.worker.bridge import Bridge

PARTS = (
    "prelude", "order", "tree", "codec", "json", "call", "hook_result", "hook_breaker",
    "hook_chain", "hook_call", "scope", "options", "query_parse", "query_value", "query_run",
    "query_functions", "query", "filter", "rag", "rag_care", "state", "state_places",
    "state_batch", "state_backup", "state_migrate", "event", "session", "session_journal",
    "artifact", "config", "streaming", "dump", "log", "debug", "measure", "profile", "metrics",
    "tool", "provider", "execution",
    "agent_spec", "agent_output", "agent_life", "agent_context", "agent_watch", "agent_run",
    "agent_instance", "agent",
    "workflow_condition", "workflow_step", "workflow_custom", "workflow_kind", "workflow_run",
    "workflow_instance", "workflow_builder", "workflow", "workflow_rag", "workflow_state",
    "template", "compare", "schedule", "replay", "utils", "hook", "args", "package",
    "interact", "run",
)  # fmt: skip
"""The Lua files in the order in which they are loaded; later ones use earlier ones."""

_FOLDER = Path(__file__).parent / "lua"
_SOURCES = (
    (b"=[llmspell points]", points.lua_text()),
    *((f"=[llmspell {name}]".encode(), (_FOLDER / f"{name}.lua").read_bytes()) for name in PARTS),
)
# Each part is called with the table they share. Only the entry of the last one comes back.
_BOOT = b"""
local host = ...
local kit = {host = host}
local assert, load, select = assert, load, select
for i = 2, select("#", ...), 2 do
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
    callback: Callable[[bytes, bytes], object],
) -> tuple[Any, Callable[..., None], Callable[[], None]]:
    """A fresh VM and its two entries: `prepare` takes the run, `go` runs it.

    Args:
        callback: The bridge; the only Python object that Lua holds, in closures no script reaches.
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
    prepare, go = lua.execute(_BOOT, callback, *parts)
    return lua, prepare, go


class Machine:
    """The VM of the zygote. Each worker has its own copy of it, and uses it once."""

    def __init__(self) -> None:
        self._bridge = Bridge()
        self._lua, self._prepare, self._go = build(self._bridge)
        # What is garbage already would be copied into every worker that collects it.
        self._lua.gccollect()

    def run(self, sock: socket.socket) -> None:
        """A worker's life: say ready, take one order, run it, end."""
        bridge, lua = self._bridge, self._lua
        bridge.open(sock)
        sock.sendall(pack(Kind.READY))
        _, payload = receive(sock)
        order = RunOrder.parse(payload)
        limits: Any = order.header["limits"]
        memory_bytes = lua.get_memory_used() + limits["memory_bytes"]
        # The order is pushed while the heap has no cap: pushing into a full one ends the process.
        self._give(order, limits)
        if lua.get_memory_used() + _START_BYTES > memory_bytes:
            bridge.out_of_memory()
        bridge.limit(lua, memory_bytes=memory_bytes, frame_bytes=limits["frame_bytes"])
        try:
            self._go()
        except (lua54.LuaMemoryError, MemoryError):
            bridge.out_of_memory()

    def _give(self, order: RunOrder, limits: Any) -> None:
        header: Any = order.header
        self._prepare(
            order.source,
            header["name"].encode(),
            order.arguments,
            bool(header["check"]),
            *(limits[name] for name in ("output_bytes", "frame_bytes", "depth", "nodes")),
            header["session"].encode(),
            *header["seeds"],
            " ".join(header["off"]).encode(),
        )
