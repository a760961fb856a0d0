"""Real state processes that start quickly: forked from one that has imported all of it.

`python -m tests.crash.nursery` reads a line of JSON for each process: its arguments, its log, and
whether it is to be a plain one; it prints the process id. A line with `wait` prints how that one
ended. What a process does from its `main` on is what `python -m services.state` does.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from services.common.healthcheck import check
from tests.crash.recorder import ROOT
from tests.integration.deployment import free_port
from tests.servers import KEY

START_S_MAX = 20
NOBODY = 65534
_FILE_CAPABILITIES = (1, 2, 3)
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER."""
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION_3 = 0x20080522


@dataclass
class Nursed:
    """A process, and how it ended, if it has."""

    pid: int
    address: str
    log: Path
    code: int | None = None

    @property
    def words(self) -> str:
        """What it has logged."""
        return self.log.read_text()

    @property
    def serves(self) -> bool:
        """Whether it came so far as to serve."""
        return self.code is None


class Nursery:
    """The process that the others are forked from."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """`environment`: of it and of all processes."""
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """No more of them."""
        self._parent.kill()
        self._parent.communicate()

    @contextmanager
    def started(
        self, folder: Path, *settings: str, plain: bool = False, flaw: str = ""
    ) -> Iterator[Nursed]:
        """A process over a folder, once it serves or has ended; killed at the end.

        Args:
            folder: Its data.
            settings: More of them, as `TABLE.KEY=VALUE`.
            plain: Without what root may do with files of others.
            flaw: One of `tests.crash.broken`, with its value, that is put in.
        """
        key_file, log = folder.with_name("context.key"), folder.with_name("state.log")
        key_file.write_text(KEY.hex())
        address = f"127.0.0.1:{free_port()}"
        values = [
            f"deployment.context_key_file={key_file}",
            f"state.data={folder}",
            f"state.listen={address}",
            *settings,
        ]
        log.write_text("")
        arguments = [f"--set={each}" for each in values]
        order = {"arguments": arguments, "log": str(log), "plain": plain, "flaw": flaw}
        nursed = Nursed(int(self._ask(order)), address, log)
        try:
            self._until_serving(nursed)
            yield nursed
        finally:
            with suppress(ProcessLookupError):
                os.kill(nursed.pid, signal.SIGKILL)
            if nursed.code is None:
                nursed.code = int(self._ask({"wait": nursed.pid}))

    def ended(self, nursed: Nursed) -> bool:
        """Whether a process is gone, though nobody asked it to go."""
        if nursed.code is None:
            told = self._ask({"wait": nursed.pid, "now": True})
            nursed.code = int(told) if told else None
        return nursed.code is not None

    def _until_serving(self, nursed: Nursed) -> None:
        deadline = time.monotonic() + START_S_MAX
        while not self.ended(nursed):
            if check(nursed.address, timeout_s=1) == "SERVING":
                return
            assert time.monotonic() < deadline, f"it neither serves nor ends: {nursed.words}"
            time.sleep(0.01)

    def _ask(self, order: object) -> str:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(order) + "\n")
        self._parent.stdin.flush()
        return self._parent.stdout.readline().strip()


def channel_to(nursed: Nursed) -> grpc.Channel:
    """A way to call it."""
    return grpc.insecure_channel(nursed.address)


def _child(order: dict) -> None:
    from services.common.server import main
    from services.state.server import build

    code = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 2)
        os.dup2(2, 1)
        if order["plain"]:
            _without_privilege()
        if order["flaw"]:
            from tests.crash.broken import FLAWS

            name, _, value = order["flaw"].partition("=")
            FLAWS[name](value)
        sys.argv[1:] = order["arguments"]
        code = main("state", build)
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    except BaseException:  # noqa: BLE001  (it is this process's last word)
        traceback.print_exc()
    finally:
        os._exit(code)


def _without_privilege() -> None:
    """Be held by the owners and modes of files, as whoever is not root is."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for number in _FILE_CAPABILITIES:  # what is started from here on must not have them either
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) == 0:
        kept = ~sum(1 << number for number in _FILE_CAPABILITIES) & 0xFFFFFFFF
        for place in (0, 1, 2):  # effective, permitted, inheritable
            sets[place] &= kept
        libc.capset(header, sets)


def _serve() -> None:
    import services.state.server  # noqa: F401  (once for all)

    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            pid, status = os.waitpid(order["wait"], os.WNOHANG if order.get("now") else 0)
            told = str(os.waitstatus_to_exitcode(status)) if pid else ""
        else:
            pid = os.fork()
            if not pid:
                _child(order)
            told = str(pid)
        sys.stdout.write(told + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
