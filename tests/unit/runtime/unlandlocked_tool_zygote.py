"""The zygote of the obedient tools without Landlock, to see what the paths hold by themselves."""

from services.runtime.worker import sandbox
from tests.unit.runtime import tool_zygote


def main(control_fd):
    """Serve with the layer left out."""
    sandbox._landlock = lambda *_: 0
    tool_zygote.main(control_fd)
