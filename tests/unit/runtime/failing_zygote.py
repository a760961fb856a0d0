"""A zygote that can fork once, and whose one worker ends before it is ready."""

import os
import socket

from services.runtime.worker import zygote


def main(control_fd):
    """Serve; the first fork is the probe of the jail, the second the worker."""
    real, left = os.fork, [2]

    def fork():
        left[0] -= 1
        if left[0] < 0:
            raise BlockingIOError(11, "no more processes")
        return real()

    os.fork = fork
    zygote.serve(socket.socket(fileno=control_fd), lambda sock: sock.close())
