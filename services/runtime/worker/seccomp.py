"""A system-call filter without a library: 23 calls are allowed, those never meant well kill.

Every other call fails with EPERM instead of killing, because Python tries calls it can do without
(getppid, fstat, ioctl). Numbers are x86-64's; on another machine the layer is reported as off.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from dataclasses import dataclass

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000
_PROT_EXEC = 4

# Offsets into struct seccomp_data.
_NUMBER, _ARCH, _THIRD_ARGUMENT = 0, 4, 32

_ALLOW = {
    "read": 0, "write": 1, "close": 3, "munmap": 11, "brk": 12, "rt_sigaction": 13,
    "rt_sigprocmask": 14, "rt_sigreturn": 15, "mremap": 25, "madvise": 28, "sendto": 44,
    "recvfrom": 45, "exit": 60, "sigaltstack": 131, "gettid": 186, "futex": 202,
    "restart_syscall": 219, "clock_gettime": 228, "clock_nanosleep": 230, "exit_group": 231,
    "getrandom": 318,
}  # fmt: skip
_ALLOW_UNLESS_EXECUTABLE = {"mmap": 9, "mprotect": 10}
_KILL = {
    "kill": 62, "tkill": 200, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
    "pidfd_send_signal": 424, "open": 2, "creat": 85, "openat": 257, "openat2": 437, "socket": 41,
    "connect": 42, "bind": 49, "socketpair": 53, "execve": 59, "execveat": 322, "clone": 56,
    "fork": 57, "vfork": 58, "clone3": 435, "ptrace": 101, "process_vm_readv": 310,
    "process_vm_writev": 311, "bpf": 321, "io_uring_setup": 425, "userfaultfd": 323,
    "perf_event_open": 298, "keyctl": 250, "mount": 165, "unshare": 272, "setns": 308,
    "pidfd_getfd": 438, "memfd_create": 319, "pidfd_open": 434,
}  # fmt: skip

_RETURN_ALLOW, _RETURN_KILL, _RETURN_EPERM = 0x7FFF0000, 0x80000000, 0x00050001

# Classic BPF: opcodes of linux/bpf_common.h.
_LOAD, _RETURN, _EQUAL, _AT_LEAST, _ANY_BIT = 0x20, 0x06, 0x15, 0x35, 0x45


@dataclass(frozen=True, slots=True)
class _Step:
    code: int
    value: int
    then: str = ""
    """Label to go to where the test holds."""
    otherwise: str = ""
    """Label to go to where it does not."""


def _program() -> list[_Step | str]:
    """The filter as steps and labels, in order."""
    fates = {"executable": _ALLOW_UNLESS_EXECUTABLE, "allow": _ALLOW, "kill": _KILL}
    numbers = [
        _Step(_EQUAL, number, then=label)
        for label, calls in fates.items()
        for number in calls.values()
    ]
    return [
        _Step(_LOAD, _ARCH),
        _Step(_EQUAL, _AUDIT_ARCH_X86_64, otherwise="kill"),
        _Step(_LOAD, _NUMBER),
        _Step(_AT_LEAST, _X32_BIT, then="kill"),
        *numbers,
        _Step(_RETURN, _RETURN_EPERM),
        "executable",
        _Step(_LOAD, _THIRD_ARGUMENT),
        _Step(_ANY_BIT, _PROT_EXEC, then="kill"),
        "allow",
        _Step(_RETURN, _RETURN_ALLOW),
        "kill",
        _Step(_RETURN, _RETURN_KILL),
    ]


def _assemble(program: list[_Step | str]) -> bytes:
    """Steps and labels as `struct sock_filter[]`; jumps are relative to the next step."""
    labels: dict[str, int] = {}
    steps: list[_Step] = []
    for entry in program:
        if isinstance(entry, str):
            labels[entry] = len(steps)
        else:
            steps.append(entry)

    def distance(label: str, position: int) -> int:
        return labels[label] - position - 1 if label else 0

    return b"".join(
        struct.pack(
            "<HBBI",
            step.code,
            distance(step.then, position),
            distance(step.otherwise, position),
            step.value,
        )
        for position, step in enumerate(steps)
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def install(libc: ctypes.CDLL) -> bool:
    """Filter this process from now on; False where the machine is not x86-64 or refuses.

    The process must have `no_new_privs` set.
    """
    if platform.machine() != "x86_64":
        return False
    code = _assemble(_program())
    steps = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(steps))
    refused = libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0)
    return not refused
