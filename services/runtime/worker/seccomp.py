"""A system-call filter without a library: some calls are allowed, those never meant well kill.

A script's worker has 23 calls. A tool's process has files as well, which Landlock bounds, and never
makes a socket: its connections are given to it.

Every other call fails with EPERM instead of killing, because Python tries calls it can do without
(getppid, fstat, ioctl). Numbers are x86-64's; on another machine the layer is reported as off.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000
_PROT_EXEC = 4

# Offsets into struct seccomp_data.
_NUMBER, _ARCH, _FIRST_ARGUMENT, _SECOND_ARGUMENT, _THIRD_ARGUMENT = 0, 4, 16, 24, 32

_SCRIPT_CALLS = {
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

_TOOL_CALLS = {
    "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "ioctl": 16, "pread64": 17,
    "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "select": 23, "sched_yield": 24,
    "dup": 32, "nanosleep": 35, "getpid": 39, "sendfile": 40, "sendmsg": 46, "recvmsg": 47,
    "shutdown": 48, "getsockname": 51, "getpeername": 52, "setsockopt": 54, "getsockopt": 55,
    "uname": 63, "fcntl": 72, "flock": 73, "fsync": 74, "fdatasync": 75, "truncate": 76,
    "ftruncate": 77, "getcwd": 79, "chdir": 80, "fchdir": 81, "rename": 82, "mkdir": 83,
    "rmdir": 84, "unlink": 87, "fchmod": 91, "umask": 95, "gettimeofday": 96, "getrlimit": 97,
    "getrusage": 98, "sysinfo": 99, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108,
    "getppid": 110, "statfs": 137, "fstatfs": 138, "arch_prctl": 158, "time": 201,
    "sched_getaffinity": 204, "getdents64": 217, "fadvise64": 221, "clock_getres": 229,
    "epoll_wait": 232, "epoll_ctl": 233, "openat": 257, "mkdirat": 258,
    "newfstatat": 262, "unlinkat": 263, "renameat": 264, "faccessat": 269, "pselect6": 270,
    "ppoll": 271, "utimensat": 280,
    "eventfd2": 290, "epoll_create1": 291, "dup3": 292, "pipe2": 293,
    "prlimit64": 302, "renameat2": 316, "copy_file_range": 326, "statx": 332, "rseq": 334,
    "close_range": 436, "openat2": 437, "faccessat2": 439, "epoll_pwait2": 441, "epoll_pwait": 281,
    "open": 2,
}  # fmt: skip
_CLONE, _CLONE3 = 56, 435
_THREAD_CALLS = {
    "set_robust_list": 273, "set_tid_address": 218, "rt_sigtimedwait": 128,
}  # fmt: skip
_WATCH_CALLS = {"inotify_init1": 294, "inotify_add_watch": 254, "inotify_rm_watch": 255}
_FORK_CALLS = {"fork": 57, "vfork": 58, "clone": _CLONE, "clone3": _CLONE3}
_PROGRAM_CALLS = {
    **_THREAD_CALLS, "execve": 59, "wait4": 61, "waitid": 247, "pipe": 22,
    "dup2": 33, "setpgid": 109, "getpgrp": 111, "getpgid": 121, "setsid": 112, "readlink": 89,
    "readlinkat": 267, "getgroups": 115, "getresuid": 118, "getresgid": 120, "capget": 125,
    "prctl": 157, "mprotect": 10, "mmap": 9, "getxattr": 191, "lgetxattr": 192, "alarm": 37,
    "setitimer": 38, "sysfs": 139, "getpriority": 140, "setrlimit": 160, "times": 100,
    "futex_waitv": 449, "sched_getparam": 143, "sched_getscheduler": 145, "get_mempolicy": 239,
    "mlock": 149, "set_mempolicy": 238, "mbind": 237,
}  # fmt: skip

_RETURN_ALLOW, _RETURN_KILL, _RETURN_EPERM = 0x7FFF0000, 0x80000000, 0x00050001
_RETURN_ENOSYS = 0x00050026
# Other processes of the user, and so other tenants' tools, could be limited by the first and
# signalled by the others: F_SETOWN, F_SETSIG, F_SETOWN_EX, FIOSETOWN, SIOCSPGRP; TIOCSTI types.
_OF_ITSELF_ONLY = ("prlimit64",)
_REFUSED_COMMANDS = {"fcntl": (8, 10, 15), "ioctl": (0x8901, 0x8902, 0x5412)}
_CLONE_THREAD = 0x00010000

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


@dataclass(frozen=True, slots=True)
class Filter:
    """What becomes of each call; what stands in none of the two answers EPERM."""

    allow: Mapping[str, int]
    """Allowed; `mmap` and `mprotect`, where they are not named, unless the memory is executable."""
    kill: Mapping[str, int]
    """Ends the process."""
    threads: bool = False
    """Whether threads may be made, though no processes. `clone3`, whose flags no filter can see, is
    told to be missing then, and libraries use `clone`."""

    def allowing(self, more: Mapping[str, int]) -> Filter:
        """The filter that allows these as well."""
        kill = {name: number for name, number in self.kill.items() if name not in more}
        return Filter({**self.allow, **more}, kill, self.threads)

    def with_threads(self) -> Filter:
        """The filter that allows threads as well, and lets forks fail instead of killing."""
        kill = {name: number for name, number in self.kill.items() if name not in _FORK_CALLS}
        return Filter({**self.allow, **_THREAD_CALLS}, kill, threads=True)


SCRIPT = Filter(_SCRIPT_CALLS, _KILL)
"""A script's worker."""
TOOL = SCRIPT.allowing(_TOOL_CALLS)
"""A tool's process."""
WATCHING = _WATCH_CALLS
"""What being told of changes in folders needs. Landlock does not bound it: no other tool has it."""
PROGRAM = Filter(TOOL.allowing(_PROGRAM_CALLS).with_threads().allow, {}, threads=True)
"""A program that a tool has started: it may have threads, and starts no other process. Programs try
what they can do without, such as a socket to ask for a user's name; nothing kills them."""
STARTING = Filter(TOOL.allowing({**_PROGRAM_CALLS, **_FORK_CALLS}).allow, {})
"""A tool's process that starts programs, each of which gets the filter above before it begins. Its
own filter is theirs as well, so it kills as little."""


def _program(filter_: Filter) -> list[_Step | str]:
    """The filter as steps and labels, in order."""
    bounded = {
        name: number
        for name, number in _ALLOW_UNLESS_EXECUTABLE.items()
        if name not in filter_.allow
    }
    threads = {"thread": {"clone": _CLONE}, "absent": {"clone3": _CLONE3}}
    bound_by_arguments = {"own": _OF_ITSELF_ONLY, **{name: (name,) for name in _REFUSED_COMMANDS}}
    checked = {
        label: {name: filter_.allow[name] for name in names if name in filter_.allow}
        for label, names in bound_by_arguments.items()
    }
    # The first that fits decides.
    fates = {**checked, "executable": bounded, "allow": filter_.allow, "kill": filter_.kill}
    fates |= threads if filter_.threads else {}
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
        "own",
        _Step(_LOAD, _FIRST_ARGUMENT),
        _Step(_EQUAL, 0, then="allow"),
        _Step(_RETURN, _RETURN_EPERM),
        *_commands(),
        "thread",
        _Step(_LOAD, _FIRST_ARGUMENT),
        _Step(_ANY_BIT, _CLONE_THREAD, then="allow"),
        _Step(_RETURN, _RETURN_EPERM),
        "absent",
        _Step(_RETURN, _RETURN_ENOSYS),
        "executable",
        _Step(_LOAD, _THIRD_ARGUMENT),
        _Step(_ANY_BIT, _PROT_EXEC, then="kill"),
        "allow",
        _Step(_RETURN, _RETURN_ALLOW),
        "kill",
        _Step(_RETURN, _RETURN_KILL),
    ]


def _commands() -> list[_Step | str]:
    """What the calls that take a command may be asked for."""
    steps: list[_Step | str] = []
    for name, refused in _REFUSED_COMMANDS.items():
        tests = [_Step(_EQUAL, command, then=f"no {name}") for command in refused]
        steps += [name, _Step(_LOAD, _SECOND_ARGUMENT), *tests, _Step(_RETURN, _RETURN_ALLOW)]
        steps += [f"no {name}", _Step(_RETURN, _RETURN_EPERM)]
    return steps


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


_SCRIPT_CODE = _assemble(_program(SCRIPT))
"""Made in the zygote, so that no worker of a script has to."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def install(libc: ctypes.CDLL, filter_: Filter = SCRIPT) -> bool:
    """Filter this process from now on; False where the machine is not x86-64 or refuses.

    The process must have `no_new_privs` set.
    """
    if platform.machine() != "x86_64":
        return False
    code = _SCRIPT_CODE if filter_ is SCRIPT else _assemble(_program(filter_))
    steps = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(steps))
    refused = libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0)
    return not refused
