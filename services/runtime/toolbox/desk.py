"""What a tool in a jailed process can reach: its tenant's folder, connections of the host."""

from __future__ import annotations

import array
import json
import socket
from collections.abc import Mapping
from typing import Any

from services.runtime.frames import HEADER, Kind, pack, receive_rest
from services.runtime.toolbox.folder import Folder
from services.runtime.toolbox.model import ToolError, not_implemented


class HostLost(BaseException):
    """Nobody is there any more who makes connections."""


class Desk:
    """Given to a tool's body."""

    def __init__(
        self, sock: socket.socket, folder: Folder | None, settings: Mapping[str, Any]
    ) -> None:
        """`settings`: what the operator tells this tool."""
        self._sock = sock
        self._folder = folder
        self.settings = settings
        self.is_untouched = True
        """Whether the tool has been given nothing yet by which it could do anything."""

    @property
    def folder(self) -> Folder:
        """The tenant's folder.

        Raises:
            ToolError: NOT_IMPLEMENTED where this deployment keeps no files.
        """
        if self._folder is None:
            raise not_implemented("This deployment keeps no files for tools.")
        self.is_untouched = False
        return self._folder

    def connect(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A connection to an address of `host` that the host process has resolved and checked.

        It blocks for at most `timeout_s` in every operation. A redirect asks again.

        Raises:
            ToolError: ADDRESS_REFUSED, HOST_UNREACHABLE.
            HostLost: where the host has gone.
        """
        _, descriptors = self._ask(host, port, timeout_s)
        connected = socket.socket(fileno=descriptors[0])
        connected.settimeout(timeout_s)
        return connected

    def addresses(self, host: str, port: int, timeout_s: float) -> list[str]:
        """The addresses of `host`, where `connect` would go.

        Raises:
            ToolError: as `connect`.
        """
        told, _ = self._ask(host, port, timeout_s, look_up=True)
        return list(told["addresses"])

    def _ask(
        self, host: str, port: int, timeout_s: float, *, look_up: bool = False
    ) -> tuple[dict[str, Any], list[int]]:
        order = {"host": host, "port": port, "timeout_s": timeout_s, "look_up": look_up}
        try:
            self._sock.sendall(pack(Kind.CALL, json.dumps(order).encode()))
            answer, descriptors = self._heard()
        except (OSError, EOFError):
            raise HostLost from None
        told: dict[str, Any] = json.loads(answer)
        if "reason" in told:
            raise ToolError(told["reason"], told["message"], **told["metadata"])
        self.is_untouched = self.is_untouched and not descriptors
        return told, descriptors

    def _heard(self) -> tuple[bytes, list[int]]:
        head, descriptors = receive_with_descriptor(self._sock, HEADER.size)
        _, answer = receive_rest(self._sock, head)
        return answer, descriptors


def receive_with_descriptor(sock: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """Bytes of which the first may have a descriptor with it."""
    space = socket.CMSG_LEN(array.array("i").itemsize)
    data, ancillary, _, _ = sock.recvmsg(size, space)
    descriptors = array.array("i")
    for level, kind, told in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(told[: len(told) - len(told) % descriptors.itemsize])
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data, list(descriptors)
