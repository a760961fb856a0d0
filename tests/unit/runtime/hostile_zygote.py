"""A zygote whose workers run Python in place of Lua: strangers' code that has left the VM.

The source of the run is executed after the jail is up, with `sock`, `pack`, `Kind`, `out`.
"""

import ctypes
import os
import socket
import sys
import time

from services.runtime.frames import Kind, RunOrder, pack, receive
from services.runtime.worker import zygote


def body(sock):
    """Be ready, then do as the source says, then leave quietly."""
    sock.sendall(pack(Kind.READY))
    _, payload = receive(sock)

    def out(text):
        sock.sendall(pack(Kind.OUTPUT, str(text).encode()))

    known = {"sock": sock, "pack": pack, "Kind": Kind, "out": out, "os": os, "socket": socket}
    known |= {"libc": LIBC, "sys": sys, "receive": receive, "time": time}
    exec(RunOrder.parse(payload).source, known)
    os._exit(0)


# Loaded before the jail, as a stranger in a worker would find it loaded.
LIBC = ctypes.CDLL(None, use_errno=True)


def main(control_fd):
    """Serve like the real one."""
    zygote.serve(socket.socket(fileno=control_fd), body)
