"""Takes away from a worker process all that a script does not need.

The order matters: each step still needs what a later one removes. Landlock, seccomp and the like
are Linux's; a layer that the machine lacks is reported as off, never passed over in silence.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Mapping

from services.runtime.worker import seccomp

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38

_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION = 1

_NOBODY = 65534

ADDRESS_SPACE_HEADROOM = 64 * 1024 * 1024
"""Bytes beyond the Lua heap: frames in both directions, Python's own, allocator fragments."""

_libc = ctypes.CDLL(None, use_errno=True)


def enter(sock_fd: int, *, memory_bytes: int, cpu_seconds: int) -> dict[str, object]:
    """Jail this process, which keeps the one socket `sock_fd` and nothing else.

    Args:
        sock_fd: Descriptor of the socket to the host.
        memory_bytes: What the Lua heap may take.
        cpu_seconds: After this much processor time comes SIGXCPU, one second later SIGKILL.

    Returns:
        Which layers are on: `seccomp`, `landlock` (ABI number, 0 for off), `no_new_privs`,
        `oom_score_adj`, `user` (`nobody` or `same`).
    """
    _close_all_but(sock_fd)
    address_space = _address_space() + memory_bytes + ADDRESS_SPACE_HEADROOM
    layers: dict[str, object] = {"oom_score_adj": _first_to_go(), "user": _drop_user()}
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    layers["no_new_privs"] = not _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    layers["landlock"] = _landlock()
    _limit({resource.RLIMIT_AS: address_space, resource.RLIMIT_CPU: cpu_seconds})
    layers["seccomp"] = seccomp.install(_libc)
    return layers


def _close_all_but(fd: int) -> None:
    os.closerange(0, fd)
    os.closerange(fd + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _address_space() -> int:
    """Bytes mapped now; the limit is relative to it."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - pathlib is not loaded here
        return int(statm.read().split()[0]) * resource.getpagesize()


def _first_to_go() -> bool:
    """Let the kernel choose this process when memory runs out, not a service."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:  # noqa: PTH123
            score.write("1000")
    except OSError:
        return False
    return True


def _drop_user() -> str:
    if os.geteuid() != 0:
        return "same"
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:
        return "same"
    return "nobody"


def _landlock() -> int:
    """Deny every file, TCP port, outside signal and abstract socket that this kernel can deny.

    https://docs.kernel.org/userspace-api/landlock.html: the rights grow with the ABI number, and a
    kernel refuses bits it does not know.
    """
    abi: int = _libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    if abi < 1:
        return 0
    files = (1 << (13 + (abi >= 2) + (abi >= 3) + (abi >= 5))) - 1  # noqa: PLR2004 - ABI numbers
    size = 8 if abi < 4 else 16 if abi < 6 else 24  # noqa: PLR2004
    rights = struct.pack("<QQQ", files, 3, 3)[:size]
    ruleset = _libc.syscall(_LANDLOCK_CREATE_RULESET, rights, size, 0)
    if ruleset < 0:
        return 0
    refused = _libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return 0 if refused else abi


def _limit(limits: Mapping[int, int]) -> None:
    for kind, soft in limits.items():
        # One second between SIGXCPU, which names its cause, and SIGKILL, which cannot be blocked.
        hard = soft + 1 if kind == resource.RLIMIT_CPU else soft
        resource.setrlimit(kind, (soft, hard))
    for kind in (
        resource.RLIMIT_FSIZE,
        resource.RLIMIT_CORE,
        resource.RLIMIT_NPROC,
        resource.RLIMIT_NOFILE,
    ):
        resource.setrlimit(kind, (0, 0))
