"""HTTP/2 by hand, for what no well-behaved client does: floods, resets, silence."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_HEADERS = 0x4
CALM = 11
"""ENHANCE_YOUR_CALM: the other side was too much."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(path: str) -> bytes:
    """The head of a gRPC call, each field written out (no compression)."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode("ascii")


class Connection:
    """A connection that sends what it is told and nothing else."""

    def __init__(self, address: str, *, begun: bool = True) -> None:
        """`begun`: whether the preface and empty settings are sent."""
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        if begun:
            self._socket.sendall(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, data: bytes) -> bool:
        """Whether it could be sent."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def goaway(self, timeout_s: float) -> int | None:
        """The code with which the server says good-bye; None where it just ends or says nothing."""
        self._socket.settimeout(timeout_s)
        seen = b""
        with suppress(OSError):
            while data := self._socket.recv(65536):
                seen += data
        while len(seen) >= 9:
            size = int.from_bytes(seen[:3], "big")
            if seen[3] == GOAWAY:
                return int.from_bytes(seen[13:17], "big")
            seen = seen[9 + size :]
        return None

    def is_ended(self, timeout_s: float) -> bool:
        """Whether the server has closed it."""
        self._socket.settimeout(timeout_s)
        try:
            while self._socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """End it."""
        self._socket.close()
