"""A tool process's life: say ready, take one order, go to jail, execute, end.

Nothing of a stranger is looked at before the jail is shut: the order's header is the host's own,
the arguments behind it are decoded inside.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
from typing import Any, NoReturn, cast

import msgspec

from services.runtime.frames import HEADER, Kind, RunOrder, pack, receive, receive_rest
from services.runtime.toolbox import jail
from services.runtime.toolbox.catalogue import TOOLS
from services.runtime.toolbox.desk import Desk, HostLost, receive_with_descriptor
from services.runtime.toolbox.folder import Folder, Room
from services.runtime.toolbox.model import Outcome, Tool, ToolError, described
from services.runtime.toolbox.paths import full_or
from services.runtime.toolbox.receipt import HEAD_BYTES, UNDONE, Receipt
from services.runtime.worker import sandbox

_NO_FOLDER = -1
_ALARM_MARGIN_S = 1.0
"""After the host would have ended it, a process whose host is lost ends itself."""


def run_one(sock: socket.socket, tools: dict[str, Tool] | None = None) -> None:
    """Execute the tool that is asked for, or tell of all of them where none is."""
    gc.enable()  # off in the zygote, whose own objects are frozen
    known = TOOLS if tools is None else tools
    sock.sendall(pack(Kind.READY))
    descriptor, order = _ordered(sock)
    receipt = Receipt(descriptor, int(cast("int", order.header.get("receipt_bytes", 0))))
    name = str(order.header["tool"])
    last = _LastWord(sock, receipt)
    if not name:
        last.end(Kind.RESULT, msgspec.msgpack.encode([described(tool) for tool in known.values()]))
    tool = known[name]
    desk = _enter(sock, tool, order, receipt)
    _execute(last, tool, desk, order.arguments)


def _ordered(sock: socket.socket) -> tuple[int, RunOrder]:
    """Descriptor of the receipt, or -1, and the order."""
    descriptor = -1
    head, descriptors = receive_with_descriptor(sock, HEADER.size)
    kind, payload = receive_rest(sock, head)
    if kind is Kind.RECEIPT:
        descriptor = descriptors[0]
        _, payload = receive(sock)
    return descriptor, RunOrder.parse(payload)


def _enter(sock: socket.socket, tool: Tool, order: RunOrder, receipt: Receipt) -> Desk:
    path = str(order.header["folder"])
    room = Room(*cast("tuple[int, int]", order.header["room"]))
    folder = os.open(path, os.O_PATH | os.O_DIRECTORY) if path else _NO_FOLDER
    if receipt.descriptor >= 0:  # it may outlive the host, which would end it
        wall_s = float(cast("float", order.header["wall_s"]))
        signal.setitimer(signal.ITIMER_REAL, wall_s + _ALARM_MARGIN_S)
    receipt.begin()  # the jail may leave no room for it
    sandbox.enter(
        sock.fileno(),
        memory_bytes=tool.limits.memory_bytes,
        cpu_seconds=tool.limits.cpu_s,
        profile=jail.profile(
            tool.needs,
            folder,
            tool.limits,
            room.bytes_left,
            receipt=receipt.descriptor,
            receipt_bytes=HEAD_BYTES + receipt.bytes_max,
        ),
    )
    settings: Any = order.header["settings"]
    return Desk(sock, Folder(folder, room) if path else None, settings)


def _execute(last: _LastWord, tool: Tool, desk: Desk, arguments: bytes) -> None:
    try:
        outcome = tool.run(msgspec.msgpack.decode(arguments), desk)
        data = msgspec.msgpack.encode(_plain(outcome))
    except HostLost:
        last.host_is_lost(is_untouched=desk.is_untouched)
    except ToolError as error:
        last.fail(error.reason, error.message, error.metadata)
    except (MemoryError, RecursionError):
        last.fail("TOOL_MEMORY_LIMIT", "", {})
    except OSError as error:
        told = full_or(error, "files")
        if isinstance(told, ToolError):
            last.fail(told.reason, told.message, told.metadata)
        last.fail("TOOL_FAILED", f"{type(error).__name__}: {error}", {})
    except BaseException as error:  # noqa: BLE001 - whatever a library raises ends here
        last.fail("TOOL_FAILED", f"{type(error).__name__}: {error}", {})
    else:
        last.end(Kind.RESULT, data)


def _plain(outcome: Outcome) -> dict[str, Any]:
    failure = outcome.failure
    return {
        "result": outcome.result,
        "operation": outcome.operation,
        "message": outcome.message,
        "metadata": outcome.metadata,
        "failure": failure
        and {"message": failure.message, "code": failure.code, "details": failure.details},
    }


class _LastWord:
    """Says what came of it: to the receipt first, then to whoever is there; and ends."""

    def __init__(self, sock: socket.socket, receipt: Receipt) -> None:
        self._sock = sock
        self.receipt = receipt

    def end(self, kind: Kind, data: bytes) -> NoReturn:
        """The word, whole."""
        self.receipt.note(kind, data)
        self._sock.sendall(pack(kind, data))
        os._exit(0)

    def fail(self, reason: str, message: str, metadata: dict[str, str]) -> NoReturn:
        """What went wrong."""
        told = {"reason": reason, "message": message[:2048], "metadata": metadata}
        self.end(Kind.FAILURE, json.dumps(told).encode())

    def host_is_lost(self, *, is_untouched: bool) -> NoReturn:
        """It cannot go on. Where nothing was given to it, nothing can have been done."""
        if is_untouched:
            self.receipt.note(UNDONE, b"")
        os._exit(1)
