"""The hostile zygote without the system-call filter, to see what the layers beneath it hold."""

from services.runtime.worker import seccomp
from tests.unit.runtime import hostile_zygote


def main(control_fd):
    """Serve with the filter left out."""
    seccomp.install = lambda *_: False
    hostile_zygote.main(control_fd)
