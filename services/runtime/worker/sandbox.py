"""Takes away from a worker process all that a script does not need.

The order matters: each step still needs what a later one removes. Landlock, seccomp and the like
are Linux's; a layer that the machine lacks is reported as off, never passed over in silence.
"""

from __future__ import annotations

import ctypes
import os
import resource
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from services.runtime.worker import seccomp

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38

_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_RULE_PATH_BENEATH = 1
_LANDLOCK_VERSION = 1

# Rights of linux/landlock.h. Links, devices, sockets and pipes can be made nowhere.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 16, 32, 128, 256
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_READ = _READ_FILE | _READ_DIR
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_OWN_FOLDER = (
    _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
)

NOBODY = 65534
"""The user of a worker whose service runs as root; a tenant's folder is this user's then."""

ADDRESS_SPACE_HEADROOM = 64 * 1024 * 1024
"""Bytes beyond the Lua heap: frames in both directions, Python's own, allocator fragments."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl, _libc.syscall  # noqa: B018 - found here once, and not in every worker


@dataclass(frozen=True, slots=True)
class Profile:
    """What a worker may besides computing and speaking on its one socket."""

    filter: seccomp.Filter = seccomp.SCRIPT
    """Its system calls."""
    folder: int = -1
    """Descriptor of the one folder whose files are its to read and write; -1: none."""
    readable: tuple[str, ...] = ()
    """Folders and files whose content it may read."""
    runnable: tuple[str, ...] = ()
    """Folders whose programs it may start."""
    devices: tuple[str, ...] = ()
    """Devices it may read and write."""
    headroom_bytes: int = ADDRESS_SPACE_HEADROOM
    """Address space beyond what it may use."""
    descriptors: int = 0
    """Most open descriptors of its own."""
    file_bytes: int = 0
    """Largest file that it may write."""
    processes: int | None = 0
    """Most processes of its user; None: as the machine has it."""
    receipt: int = -1
    """Descriptor of a file that it may write though it could not open it; -1: none."""
    receipt_bytes: int = 0
    """How large that may become; it raises its limit of files to this by itself."""


SCRIPT = Profile()
"""A script's worker: nothing."""


def enter(
    sock_fd: int,
    *,
    memory_bytes: int,
    cpu_seconds: int,
    profile: Profile = SCRIPT,
    mapped_bytes: int = 0,
) -> dict[str, object]:
    """Jail this process, which keeps the socket `sock_fd` and what the profile gives it.

    Args:
        sock_fd: Descriptor of the socket to the host.
        memory_bytes: What the worker may use of memory.
        cpu_seconds: After this much processor time comes SIGXCPU, one second later SIGKILL.
        profile: What it may.
        mapped_bytes: Its address space now, where that is known; 0: asked for.

    Returns:
        Which layers are on: `seccomp`, `landlock` (ABI number, 0 for off), `no_new_privs`,
        `oom_score_adj`, `user` (`nobody` or `same`).
    """
    _close_all_but(sock_fd, profile.folder, profile.receipt)
    address_space = (mapped_bytes or address_space_bytes()) + memory_bytes + profile.headroom_bytes
    layers: dict[str, object] = {"oom_score_adj": _first_to_go(), "user": _drop_user()}
    _hide()
    layers["no_new_privs"] = _keep_to_rights()
    layers["landlock"] = _landlock(profile)
    _limit({resource.RLIMIT_AS: address_space, resource.RLIMIT_CPU: cpu_seconds}, profile)
    layers["seccomp"] = seccomp.install(_libc, profile.filter)
    return layers


def _close_all_but(*kept: int) -> None:
    begin = 0
    for fd in sorted(fd for fd in kept if fd >= 0):
        os.closerange(begin, fd)
        begin = fd + 1
    os.closerange(begin, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def address_space_bytes() -> int:
    """What is mapped now; the limit is relative to it."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - pathlib is not loaded here
        return int(statm.read().split()[0]) * resource.getpagesize()


def _first_to_go() -> bool:
    """Let the kernel choose this process when memory runs out, not a service."""
    try:
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(score, b"1000")
        os.close(score)
    except OSError:
        return False
    return True


def _drop_user() -> str:
    if os.geteuid() != 0:
        return "same"
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return "same"
    return "nobody"


def _hide() -> None:
    """Let no other process of this user look into this one, and write no core of it."""
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _keep_to_rights() -> bool:
    """Let no program that is started bring rights of its own."""
    return not _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _landlock(profile: Profile) -> int:
    """Deny TCP ports, outside signals, abstract sockets, and every file but the profile's.

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
    _open_up(ruleset, profile, files)
    refused = _libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return 0 if refused else abi


def _open_up(ruleset: int, profile: Profile, known: int) -> None:
    """Add the profile's exceptions; `known`: the rights that this kernel knows."""
    if profile.folder >= 0:
        _allow(ruleset, profile.folder, _OWN_FOLDER & known)
    for rights, paths in (
        (_READ, profile.readable),
        (_READ | _EXECUTE, profile.runnable),
        (_READ_FILE | _WRITE_FILE, profile.devices),
    ):
        for path in paths:
            try:
                descriptor = os.open(path, os.O_PATH)
            except OSError:  # not there, or not this user's to see: nothing to allow
                continue
            plain = not stat.S_ISDIR(os.fstat(descriptor).st_mode)
            _allow(ruleset, descriptor, rights & known & (_FILE_RIGHTS if plain else rights))
            os.close(descriptor)


def _allow(ruleset: int, descriptor: int, rights: int) -> None:
    rule = struct.pack("<Qi", rights, descriptor)
    _libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)


def _limit(limits: Mapping[int, int], profile: Profile) -> None:
    for kind, soft in limits.items():
        # One second between SIGXCPU, which names its cause, and SIGKILL, which cannot be blocked.
        hard = soft + 1 if kind == resource.RLIMIT_CPU else soft
        resource.setrlimit(kind, (soft, hard))
    fixed = {
        resource.RLIMIT_FSIZE: profile.file_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: profile.processes,
        resource.RLIMIT_NOFILE: profile.descriptors,
    }
    for kind, most in fixed.items():
        if most is not None:
            hard = max(most, profile.receipt_bytes) if kind == resource.RLIMIT_FSIZE else most
            resource.setrlimit(kind, (most, hard))
