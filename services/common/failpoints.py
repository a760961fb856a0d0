"""Named instants at which a test may crash, delay or fail a process.

Off unless `LLMSPELL_FAILPOINTS` is set, as `NAME=crash;NAME=sleep:0.1;NAME=fail`; `crash:PATH` does
so once there is a file of that name. A point without an entry costs one dictionary look-up in an
empty dictionary.
"""

from __future__ import annotations

import os
import signal
import time


def _parse(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(";") if "=" in part)


_ACTIONS = _parse(os.environ.get("LLMSPELL_FAILPOINTS", ""))


def hit(name: str) -> None:
    """Do what a test has asked for at this instant, usually nothing.

    Raises:
        OSError: where the action is `fail`.
    """
    action = _ACTIONS.get(name)
    if action is None:
        return
    if action == "crash" or (action.startswith("crash:") and os.path.exists(action[6:])):  # noqa: PTH110  (no import for it)
        os.kill(os.getpid(), signal.SIGKILL)
    elif action.startswith("sleep:"):
        time.sleep(float(action.removeprefix("sleep:")))
    elif action == "fail":
        raise OSError(5, f"failpoint {name}")
