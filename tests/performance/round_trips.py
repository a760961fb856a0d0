"""The bare reference of a host call: bytes over a socket pair between two processes, and back.

`python -m tests.performance.round_trips FD COUNT SENT RECEIVED` is the end that asks, as a worker
does: it blocks. The end that answers waits in a loop of events, as the runtime must, or blocks too.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from asyncio.subprocess import PIPE, create_subprocess_exec


def ask(sock: socket.socket, count: int, sent: int, received: int) -> float:
    """Microseconds of one round trip."""
    question, answer = bytes(sent), bytearray(received)
    begin = 0.0
    for number in range(count + 50):
        if number == 50:
            begin = time.perf_counter()
        sock.sendall(question)
        sock.recv_into(answer, received, socket.MSG_WAITALL)
    return (time.perf_counter() - begin) / count * 1e6


class _Answers(asyncio.Protocol):
    def __init__(self, sent: int, received: int) -> None:
        self._sent = sent
        self._answer = bytes(received)
        self._have = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Kept."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers as soon as a question is complete."""
        self._have += len(data)
        if self._have >= self._sent:
            self._have -= self._sent
            self._transport.write(self._answer)


def _answer_blocking(sock: socket.socket, sent: int, received: int) -> None:
    question, answer = bytearray(sent), bytes(received)
    while sock.recv_into(question, sent, socket.MSG_WAITALL):
        sock.sendall(answer)


async def bare(count: int, sent: int, received: int, *, blocking: bool) -> float:
    """Microseconds of a bare round trip."""
    ours, theirs = socket.socketpair()
    with theirs:
        numbers = map(str, (theirs.fileno(), count, sent, received))
        process = await create_subprocess_exec(
            *(sys.executable, "-m", "tests.performance.round_trips", *numbers),
            pass_fds=(theirs.fileno(),),
            stdout=PIPE,
        )
    if blocking:
        threading.Thread(target=_answer_blocking, args=(ours, sent, received), daemon=True).start()
        told, _ = await process.communicate()
        ours.close()
    else:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: _Answers(sent, received), sock=ours)
        told, _ = await process.communicate()
        transport.close()
    return float(told)


if __name__ == "__main__":
    fd, *rest = map(int, sys.argv[1:])
    print(ask(socket.socket(fileno=fd), *rest))
