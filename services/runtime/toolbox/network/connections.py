"""Connections of the host's making that end when the execution must, plain and with TLS."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

import certifi

from services.runtime.toolbox.desk import Desk
from services.runtime.toolbox.model import ToolError

_SECONDS_MAX = 3600.0


class TimedSocket(socket.socket):
    """A socket whose every operation ends at one time, however little each of them brings."""

    until = float("inf")
    """On the monotonic clock."""

    def recv_into(self, *args: Any) -> int:
        """As a socket's, in the time that is left."""
        self.settimeout(seconds_left(self.until))
        return super().recv_into(*args)

    def recv(self, *args: Any) -> bytes:
        """As a socket's, in the time that is left."""
        self.settimeout(seconds_left(self.until))
        return super().recv(*args)

    def sendall(self, *args: Any) -> None:
        """As a socket's, in the time that is left."""
        self.settimeout(seconds_left(self.until))
        super().sendall(*args)


class TimedTls(ssl.SSLSocket):
    """The same for TLS, whose sockets the context makes itself."""

    until = float("inf")
    """On the monotonic clock; the class's, because a process executes one tool once."""

    def recv_into(self, *args: Any) -> int:
        """As a socket's, in the time that is left."""
        self.settimeout(seconds_left(self.until))
        return super().recv_into(*args)

    def recv(self, *args: Any) -> bytes:
        """As a socket's, in the time that is left."""
        self.settimeout(seconds_left(self.until))
        return super().recv(*args)

    def sendall(self, *args: Any) -> None:
        """As a socket's, in the time that is left."""
        self.settimeout(seconds_left(self.until))
        super().sendall(*args)


def seconds_left(until: float) -> float:
    """Seconds until then.

    Raises:
        TimeoutError: it is over.
    """
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return min(left, _SECONDS_MAX)


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = TimedTls
    return context


TLS = _context()
"""Certificates of known authorities, the host's name in them, TLS 1.2 or newer. Read now, because
nothing can be in the jail."""


def trust(desk: Desk) -> ssl.SSLContext:
    """TLS with the operator's own authorities as well."""
    authorities = desk.settings.get("authorities")
    if authorities:
        TLS.load_verify_locations(cadata=authorities)
    return TLS


def connect(desk: Desk, host: str, port: int, until: float) -> TimedSocket:
    """A connection that ends then, also when TLS is put around it.

    Raises:
        ToolError: as `Desk.connect`; HOST_UNREACHABLE where the time is over.
    """
    try:
        left = seconds_left(until)
    except TimeoutError:
        raise unreachable(host, "the time is over") from None
    timed = TimedSocket(fileno=desk.connect(host, port, left).detach())
    timed.settimeout(left)  # of a handshake, which does not go through the methods above
    timed.until = TimedTls.until = until
    return timed


def unreachable(host: str, why: str) -> ToolError:
    """The other machine does not answer, or not as it should."""
    return ToolError("HOST_UNREACHABLE", f"{host} cannot be reached: {why}.", host=host)
