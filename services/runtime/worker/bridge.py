"""The one thing a script can reach outside its VM: bytes in, a status and perhaps bytes out.

lupa's bridge is not memory-safe for hostile scripts (docs/adr/0006-worker-jail.md), so nothing but
byte strings and integers may cross it, the callback never raises, and it never pushes a long
string into a heap that may be full: Lua would jump out of it and hold the interpreter for ever.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from services.runtime.frames import Kind, pack, receive

DONE = 0
"""For `c`: with the reply's tree."""
REFUSED = 1
"""For `c`: with the error's tree."""
NO_ROOM = 2
"""For `c`, `a`: no room for the reply; collect garbage and ask again with `a`."""

_SLACK = 64 * 1024
"""What pushing a reply needs beyond its bytes: the string's head, a grown stack."""
_OUTPUT_BYTES = 64 * 1024
"""Longer output is sent in pieces, so that none nears the frame limit."""

OUT_OF_MEMORY = json.dumps({"kind": "memory", "message": "not enough memory"}).encode()


class Bridge:
    """The callback of one run.

    Operations: `o` prints, `c` calls the host, `a` asks for the last reply again, `r` ends the run
    with its JSON result, `f` ends it with a JSON failure.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lua: Any = None
        self._limit = 0
        self._ceiling = 0
        self._reply = b""

    def limit(self, lua: Any, *, memory_bytes: int, frame_bytes: int) -> None:
        """Cap the heap from now on; replies may lift the cap by one frame at most."""
        self._lua = lua
        self._limit = memory_bytes
        self._ceiling = memory_bytes + frame_bytes + _SLACK
        lua.set_max_memory(memory_bytes)

    def __call__(self, operation: bytes, data: bytes) -> int | tuple[int, bytes]:
        """Serve one operation; never raises."""
        try:
            return self._do(operation, data)
        except BaseException:  # noqa: BLE001 - an exception object must never reach the script
            os._exit(1)

    def _do(self, operation: bytes, data: bytes) -> int | tuple[int, bytes]:
        self._lua.set_max_memory(self._limit)
        if operation == b"o":
            return self._print(data)
        if operation == b"c":
            self._sock.sendall(pack(Kind.CALL, data))
            _, self._reply = receive(self._sock)
            return self._give()
        if operation == b"a":
            return self._give()
        self.end(Kind.RESULT if operation == b"r" else Kind.FAILURE, data)
        return DONE

    def _print(self, data: bytes) -> int:
        for start in range(0, len(data), _OUTPUT_BYTES):
            self._sock.sendall(pack(Kind.OUTPUT, data[start : start + _OUTPUT_BYTES]))
        return DONE

    def _give(self) -> int | tuple[int, bytes]:
        """The reply, where the heap may be lifted by its size; integers need no room."""
        need = self._lua.get_memory_used() + len(self._reply) + _SLACK
        if need > self._ceiling:
            return NO_ROOM
        self._lua.set_max_memory(max(self._limit, need))
        return self._reply[0], self._reply[1:]

    def end(self, kind: Kind, data: bytes) -> None:
        """Say the last word and leave without running anything else."""
        self._sock.sendall(pack(kind, data))
        os._exit(0)
