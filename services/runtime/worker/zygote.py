"""The small process that every worker is forked from.

It was exec'ed, never forked from a service; it has one thread, an empty environment and one
socket. It forks on request, tells the host of each child's start and end, and exits when the host
goes away. A child that is running when the zygote dies is not harmed: it talks to the host by a
socket of its own.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping

from services.runtime.worker import sandbox

Body = Callable[[socket.socket], None]
"""What a worker does once it is jailed."""

_DESCRIPTORS_MAX = 1024
_REQUEST_BYTES_MAX = 4096


def serve(control: socket.socket, body: Body) -> None:
    """Fork a worker for each request on `control` until the host closes it.

    A request is a JSON object of `id`, `memory_bytes`, `cpu_seconds` with one socket attached.
    Answers: `{"layers"}` once at the start; `{"started", "pid"}` with the child's pidfd attached,
    or `{"refused", "error"}`; `{"exited", "status", "cpu_seconds"}` when a child has ended.
    """
    _settle(control.fileno())
    _tell(control, {"layers": _probe()})
    children: dict[int, int] = {}  # pidfd -> pid
    poller = select.poll()
    poller.register(control, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd in children:
                poller.unregister(fd)
                _tell(control, _reap(children.pop(fd)))
                os.close(fd)
            elif (started := _answer(control, body)) is not None:
                children[started[0]] = started[1]
                poller.register(started[0], select.POLLIN)


def _settle(control_fd: int) -> None:
    """Hold nothing but the control socket, and make what children share cheap and plain."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS_MAX, _DESCRIPTORS_MAX))
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, control_fd)
    os.closerange(control_fd + 1, _DESCRIPTORS_MAX)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.clear()  # Python sets LC_CTYPE by itself
    # Time zone data is read here once: the jail has no files. Scripts see UTC everywhere.
    os.environ["TZ"] = "UTC0"
    time.tzset()
    gc.disable()
    gc.freeze()


def _tell(control: socket.socket, message: Mapping[str, object], *fds: int) -> None:
    try:
        socket.send_fds(control, [json.dumps(message).encode()], fds)
    except OSError:
        os._exit(0)


def _probe() -> dict[str, object]:
    """Jail a child and let it say which layers held."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        try:
            layers = sandbox.enter(theirs.fileno(), memory_bytes=0, cpu_seconds=1)
            theirs.send(json.dumps(layers).encode())
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        answer = ours.recv(_REQUEST_BYTES_MAX)
    os.waitpid(pid, 0)
    layers = json.loads(answer or b"{}")
    assert isinstance(layers, dict)
    return layers


def _answer(control: socket.socket, body: Body) -> tuple[int, int] | None:
    """Fork for one request; gives pidfd and pid."""
    request, fds, _, _ = socket.recv_fds(control, _REQUEST_BYTES_MAX, 1)
    if not request:
        os._exit(0)
    order = json.loads(request)
    try:
        pid = os.fork()
    except OSError as error:
        os.close(fds[0])
        _tell(control, {"refused": order["id"], "error": str(error)})
        return None
    if not pid:
        _child(fds[0], order, body)
    os.close(fds[0])
    # Opened before the child can be reaped, so it is this child's and not a later namesake's.
    pidfd = os.pidfd_open(pid)
    _tell(control, {"started": order["id"], "pid": pid}, pidfd)
    return pidfd, pid


def _child(fd: int, order: Mapping[str, int], body: Body) -> None:
    try:
        sock = socket.socket(fileno=fd)
        sandbox.enter(fd, memory_bytes=order["memory_bytes"], cpu_seconds=order["cpu_seconds"])
        body(sock)
    finally:
        os._exit(1)


def _reap(pid: int) -> dict[str, object]:
    _, status, usage = os.wait4(pid, 0)
    return {
        "exited": pid,
        "status": os.waitstatus_to_exitcode(status),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }
