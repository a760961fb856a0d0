"""Entry of the zygote; started by `services.runtime.pool` with the number of its control socket."""

from __future__ import annotations

import socket
import sys

from services.runtime.worker import vm, zygote


def main(control_fd: int) -> None:
    """Serve the host on the control socket until it goes away."""
    zygote.serve(socket.socket(fileno=control_fd), vm.Machine().run)


if __name__ == "__main__":
    main(int(sys.argv[1]))
