"""The hostile zygote without any jail: the source itself puts on the layer that it then tries."""

from services.runtime.worker import sandbox
from tests.unit.runtime import hostile_zygote


def main(control_fd):
    """Serve without entering."""
    sandbox.enter = lambda *_, **__: {}
    hostile_zygote.main(control_fd)
