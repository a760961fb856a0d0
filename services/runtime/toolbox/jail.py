"""What the process of a tool may do: what its needs say, and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Set as AbstractSet
from dataclasses import replace

from services.runtime.toolbox.model import Need, ToolLimits
from services.runtime.worker import sandbox, seccomp
from services.runtime.worker.sandbox import Profile

_READABLE = tuple(
    dict.fromkeys(
        path
        for path in (sys.prefix, sys.base_prefix, "/usr/share/zoneinfo", "/etc/mime.types")
        if os.path.exists(path)  # noqa: PTH110 - pathlib is not loaded here
    )
)
"""Python's own files: what a library loads when it is first used."""
_RUNNABLE = tuple(path for path in ("/usr", "/bin", "/lib", "/lib64") if os.path.isdir(path))  # noqa: PTH112
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/etc/ld.so.cache")
_DESCRIPTORS = 64
_PROCESSES = 4096
"""Of all workers together, for they have one user: it ends what multiplies."""

HEADROOM_BYTES = 64 * 1024 * 1024
"""Address space for what libraries map when they are first used."""


def profile(
    needs: AbstractSet[Need],
    folder: int,
    limits: ToolLimits,
    bytes_left: int,
    *,
    receipt: int = -1,
    receipt_bytes: int = 0,
) -> Profile:
    """The jail of a tool.

    Args:
        needs: What it needs.
        folder: Descriptor of the tenant's folder, or -1.
        limits: Its own.
        bytes_left: What the tenant may still write.
        receipt: Descriptor of the file in which it notes what came of it, or -1.
        receipt_bytes: Largest size of that file.
    """
    filter_ = seccomp.TOOL
    if Need.WATCH in needs:
        filter_ = filter_.allowing(seccomp.WATCHING)
    if Need.PROGRAMS in needs:
        filter_ = seccomp.STARTING
    runs = Need.PROGRAMS in needs
    return replace(
        sandbox.SCRIPT,
        filter=filter_,
        folder=folder if Need.FILES in needs else -1,
        readable=_READABLE,
        runnable=_RUNNABLE if runs else (),
        devices=_DEVICES if runs else _DEVICES[:1],
        headroom_bytes=HEADROOM_BYTES,
        descriptors=_DESCRIPTORS,
        file_bytes=min(limits.file_bytes, bytes_left) if Need.FILES in needs else 0,
        processes=_PROCESSES if runs else 0,
        receipt=receipt,
        receipt_bytes=receipt_bytes if receipt >= 0 else 0,
    )
