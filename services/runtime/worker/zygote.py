"""The small process that every worker is forked from.

It was exec'ed, never forked from a service; it has one thread, an empty environment and one
socket. It forks on request, tells the host of each child's start and end, and exits when the host
goes away. A child that is running when the zygote dies is not harmed: it talks to the host by a
socket of its own. Children that note what came of them, and so may outlive the host, are waited
for, though not for long.
"""

from __future__ import annotations

import ctypes
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
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)
_REQUEST_BYTES_MAX = 4096
ORPHAN_SECONDS = 302.0
"""How long a child may go on without the host: as long as any tool may, and its alarm's margin."""


def serve(control: socket.socket, body: Body, *, jailed: bool = True) -> None:
    """Fork a worker for each request on `control` until the host closes it; does not return.

    `jailed`: whether a child is jailed before its body. A body that learns from the host what it
    may goes by itself, before it looks at anything of a stranger's.

    A request is a JSON object of `id`, `patient`, `memory_bytes`, `cpu_seconds` with one socket
    attached.
    Answers: `{"layers"}` once at the start; `{"started", "pid"}` with the child's pidfd attached,
    or `{"refused", "error"}`; `{"exited", "status", "cpu_seconds"}` when a child has ended.
    """
    _settle(control.fileno())
    _tell(control, {"layers": _probe()})
    if not jailed:  # its workers may start programs, and what they leave behind is ended here
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # The same in every child, to which asking for it would be a good part of its start.
    mapped_bytes = sandbox.address_space_bytes() if jailed else 0
    children: dict[int, int] = {}  # pidfd -> pid
    poller = select.poll()
    poller.register(control, select.POLLIN)
    try:
        while True:
            for fd, _ in poller.poll():
                if fd in children:
                    poller.unregister(fd)
                    ended = _reap(children.pop(fd))
                    os.close(fd)
                    if not jailed:
                        _end_strays(set(children.values()))
                    _tell(control, ended)
                elif (started := _answer(control, body, mapped_bytes)) is not None:
                    children[started[0]] = started[1]
                    poller.register(started[0], select.POLLIN)
    except _HostLost:
        if not jailed:
            _outlast(children)
        os._exit(0)


class _HostLost(Exception):  # noqa: N818 - it is how this ends
    """Nobody asks for anything any more."""


def _outlast(children: dict[int, int]) -> None:
    """See children end that the host has left behind, and what they leave; then end the rest.

    One that waits for its order ends by itself at once, for its host has gone; one whose host
    would end it in time does so by its own alarm, unless it is in a stranger's hands.
    """
    poller = select.poll()
    for fd in children:
        poller.register(fd, select.POLLIN)
    deadline_s = time.monotonic() + ORPHAN_SECONDS
    while children and (left_s := deadline_s - time.monotonic()) > 0:
        for fd, _ in poller.poll(left_s * 1000):
            poller.unregister(fd)
            os.waitpid(children.pop(fd), 0)
            _end_strays(set(children.values()))
    _end_strays(set())


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
        raise _HostLost from None


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


def _answer(control: socket.socket, body: Body, mapped_bytes: int) -> tuple[int, int] | None:
    """Fork for one request; gives pidfd and pid. Without `mapped_bytes` the child is not jailed."""
    try:
        request, fds, _, _ = socket.recv_fds(control, _REQUEST_BYTES_MAX, 1)
    except OSError:
        raise _HostLost from None
    if not request:
        raise _HostLost
    order = json.loads(request)
    try:
        pid = os.fork()
    except OSError as error:
        os.close(fds[0])
        _tell(control, {"refused": order["id"], "error": str(error)})
        return None
    if not pid:
        _child(fds[0], order, body, mapped_bytes)
    os.close(fds[0])
    # Opened before the child can be reaped, so it is this child's and not a later namesake's.
    pidfd = os.pidfd_open(pid)
    _tell(control, {"started": order["id"], "pid": pid}, pidfd)
    return pidfd, pid


def _child(fd: int, order: Mapping[str, int], body: Body, mapped_bytes: int) -> None:
    try:
        if order["patient"]:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        sock = socket.socket(fileno=fd)
        # A child that held the control socket would hide the zygote's death from the host.
        os.closerange(3, fd)
        os.closerange(fd + 1, _DESCRIPTORS_MAX)
        if mapped_bytes:
            memory, cpu = order["memory_bytes"], order["cpu_seconds"]
            sandbox.enter(fd, memory_bytes=memory, cpu_seconds=cpu, mapped_bytes=mapped_bytes)
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


def _end_strays(known: set[int]) -> None:
    """End processes whose parent was a worker that is gone, as often as there are new ones."""
    me = os.getpid()
    while True:
        try:
            with open(f"/proc/self/task/{me}/children", encoding="ascii") as file:  # noqa: PTH123
                strays = [pid for pid in map(int, file.read().split()) if pid not in known]
        except OSError:  # a kernel that does not tell: they end with their timers
            return
        if not strays:
            return
        for pid in strays:
            os.kill(pid, signal.SIGKILL)
        for pid in strays:
            os.waitpid(pid, 0)
