"""A zygote of tools whose one tool is the example of the guide, as it stands there."""

import re
import socket
from pathlib import Path

from services.runtime.toolbox.one import run_one
from services.runtime.worker import zygote

PAGE = Path(__file__).resolve().parents[3] / "docs" / "guide" / "tools.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
MODULE = next(block for block in BLOCKS if block.startswith('"""word-counter'))
TEST = next(block for block in BLOCKS if block.startswith("async def test_"))

_names: dict = {"__name__": "word_counter"}
exec(compile(MODULE, str(PAGE), "exec"), _names)
TOOLS = {tool.name: tool for tool in _names["TOOLS"]}


def main(control_fd):
    """Serve like the real one."""
    sock = socket.socket(fileno=control_fd)
    zygote.serve(sock, lambda worker: run_one(worker, TOOLS), jailed=False)
