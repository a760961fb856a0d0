"""The one thing a script can reach outside its VM: bytes in, a status and perhaps bytes out.

lupa's bridge is not memory-safe for hostile scripts (docs/adr/0006-worker-jail.md), so nothing but
byte strings and integers may cross it, the callback never raises, and it never pushes a long
string into a heap that may be full: Lua would jump out of it and hold the interpreter for ever.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any, NoReturn

from services.runtime.frames import HEADER, Kind, pack, receive

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

_TELLING = {b"l": Kind.LOG, b"m": Kind.METRICS}
"""Operations that need no answer."""
_ASKING = {b"c": Kind.CALL, b"t": Kind.READING, b"n": Kind.ANSWER}
"""Operations that wait for one."""

_OUT_OF_MEMORY = pack(
    Kind.FAILURE, json.dumps({"kind": "memory", "message": "not enough memory"}).encode()
)
"""Made beforehand: when it is needed there may be no memory to make it."""


class Bridge:
    """The callback of one run.

    Operations: `o` prints, `l` writes a line of the log, `m` tells what was measured, `c` calls the
    host, `a` asks for the last reply again, `t` reads time or memory as the host tells it (an
    integer needs no room in the heap), `n` answers a piece and waits for the next, `i` asks whether
    the piece is to end, `r` ends the run with its JSON result, `f` ends it with a JSON failure.
    """

    def __init__(self) -> None:
        self._sock: Any = None
        self._lua: Any = None
        self._limit = 0
        self._ceiling = 0
        self._reply = b""
        self._interrupted = False

    def open(self, sock: socket.socket) -> None:
        """From now on talk to the host of this run."""
        self._sock = sock

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
        except MemoryError:
            self.out_of_memory()
        except BaseException:  # noqa: BLE001 - an exception object must never reach the script
            os._exit(1)

    def _do(self, operation: bytes, data: bytes) -> int | tuple[int, bytes]:
        self._lua.set_max_memory(self._limit)
        if operation == b"o":
            return self._print(data)
        if operation in _TELLING:
            self._sock.sendall(pack(_TELLING[operation], data))
            return DONE
        if operation in (b"r", b"f"):
            self.end(Kind.RESULT if operation == b"r" else Kind.FAILURE, data)
        if operation == b"i":
            return int(self._look())
        if operation in _ASKING:
            self._sock.sendall(pack(_ASKING[operation], data))
            self._reply = self._receive()
        if operation == b"t":
            return int.from_bytes(self._reply, "little", signed=True)
        if operation == b"n":
            self._interrupted = False  # it was meant for the piece before
        return self._give()

    def _receive(self) -> bytes:
        """The payload of the host's next frame; an interrupt on the way is remembered."""
        while True:
            kind, payload = receive(self._sock)
            if kind is not Kind.INTERRUPT:
                return payload
            self._interrupted = True

    def _look(self) -> bool:
        """Whether the host wants the piece that runs to end; does not wait."""
        try:
            head = self._sock.recv(HEADER.size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self._interrupted
        if not head:
            raise EOFError
        if len(head) == HEADER.size:
            receive(self._sock)  # while a piece computes nothing else is sent
            self._interrupted = True
        return self._interrupted

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

    def out_of_memory(self) -> NoReturn:
        """Say so and leave; takes no memory."""
        self._sock.sendall(_OUT_OF_MEMORY)
        os._exit(0)

    def end(self, kind: Kind, data: bytes) -> NoReturn:
        """Say the last word and leave without running anything else."""
        self._sock.sendall(pack(kind, data))
        os._exit(0)
