"""Starts a program of this machine within the tool's jail, and reads what it says.

The program starts no other one: the filter that it gets before it begins refuses that. It ends when
the tool's process ends, and by a timer that it brings along.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from services.runtime.toolbox.model import ToolError
from services.runtime.worker import seccomp

PATH = "/usr/local/bin:/usr/bin:/bin"
_PR_SET_PDEATHSIG = 1
_PLACE = 10
_CHUNK_BYTES = 64 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended."""

    exit_code: int
    """Negative: the signal that ended it."""
    stdout: bytes
    stderr: bytes
    elapsed_s: float
    timed_out: bool
    truncated: bool
    """Whether it said more than was asked for; it was ended then."""


def find_program(name: str) -> str | None:
    """Path of a program; asked before the jail."""
    return shutil.which(name, path=PATH)


def run_program(
    command: Sequence[str],
    *,
    folder: int,
    wall_s: float,
    output_bytes: int,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run a program to its end.

    Args:
        command: Its path, and its arguments.
        folder: Descriptor of the folder that it works in.
        wall_s: Seconds on the clock; it is ended then.
        output_bytes: Of each of its two outputs; it is ended where it says more.
        environment: All of its environment beside `PATH`.

    Raises:
        ToolError: TOOL_FAILED where it cannot be started.
    """
    begin = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: S603 - an allowed program, without a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": PATH, **(environment or {})},
            preexec_fn=_alone(folder, wall_s),  # noqa: PLW1509 - there are no threads here
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError("TOOL_FAILED", f"{command[0]} cannot be started: {error}.") from None
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        outputs, truncated = _read([process.stdout, process.stderr], output_bytes)
        code = process.wait()
    return Ended(
        exit_code=code,
        stdout=outputs[0],
        stderr=outputs[1],
        elapsed_s=time.monotonic() - begin,
        timed_out=code == -signal.SIGALRM,
        truncated=truncated,
    )


def _alone(folder: int, wall_s: float) -> Callable[[], None]:
    """What the new process does before it becomes the program."""
    # The lowest three are the program's own, and free in this process.
    place = fcntl.fcntl(folder, fcntl.F_DUPFD_CLOEXEC, _PLACE)

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.fchdir(place)
        signal.setitimer(signal.ITIMER_REAL, wall_s)
        seccomp.install(_libc, seccomp.PROGRAM)

    return prepare


def _read(files: list[IO[bytes]], most: int) -> tuple[list[bytes], bool]:
    """All that comes, until one gives more than `most` bytes: then no more is taken."""
    outputs = [bytearray() for _ in files]
    with selectors.SelectSelector() as selector:
        for number, file in enumerate(files):
            selector.register(file, selectors.EVENT_READ, number)
        while selector.get_map():
            for key, _ in selector.select():
                chunk = os.read(key.fd, _CHUNK_BYTES)
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                output = outputs[key.data]
                output += chunk
                if len(output) > most:
                    del output[most:]
                    for file in files:  # its next word ends it: SIGPIPE
                        with contextlib.suppress(OSError):
                            file.close()
                    return [bytes(each) for each in outputs], True
    return [bytes(each) for each in outputs], False
