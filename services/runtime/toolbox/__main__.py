"""Entry of the tools' zygote; started by `services.runtime.pool` with its control socket."""

from __future__ import annotations

import socket
import sys

from services.runtime.toolbox.one import run_one
from services.runtime.worker import zygote


def main(control_fd: int) -> None:
    """Serve the host on the control socket until it goes away."""
    zygote.serve(socket.socket(fileno=control_fd), run_one, jailed=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
