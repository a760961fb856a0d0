"""Executions of tools: the jail's edges, tried by a tool that does as a stranger says."""

import asyncio
import os
import socket

import pytest

from services.common.errors import Reason, ServiceError
from services.runtime.tools.folders import FileLimits
from tests.unit.runtime.tooling import caller, open_toolbox, tenant_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")

ZYGOTE = "tests.unit.runtime.tool_zygote"
SHARED = {}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tenants' folders; beside them a file that is nobody's to read."""
    folder = tmp_path_factory.mktemp("tenants")
    (folder / "beside").write_text("not yours")
    return folder


async def obey(place, source, *, tool="obey-with-files", tenant="acme", timeout_s=None, **more):
    async with open_toolbox(place, zygote=ZYGOTE, **more) as toolbox:
        given = {"source": source}
        done = await toolbox.execute(tool, given, caller(tenant), timeout_s=timeout_s)
        return done.result


async def refusal(place, source, **more):
    with pytest.raises(ServiceError) as caught:
        await obey(place, source, **more)
    return caught.value


async def test_a_tenants_files_stay_the_tenants(place):
    """What one tenant's tool wrote, the next execution finds; another tenant's does not."""
    await obey(place, "desk.folder.write('a/../b' if 0 else 'note', b'mine')")
    assert await obey(place, "result = desk.folder.read('note')") == b"mine"
    error = await refusal(place, "desk.folder.read('note')", tenant="globex")
    assert error.reason == Reason.FILE_NOT_FOUND


@pytest.mark.parametrize("path", ["../beside", "/etc/passwd", "a/../../beside", "..", "a\0b", ""])
async def test_a_path_that_leads_outside_is_refused(place, path):
    """Absolute, upward and malformed paths are refused by name."""
    error = await refusal(place, f"desk.folder.read({path!r})")
    assert error.reason in (Reason.PATH_REFUSED, Reason.FIELD_INVALID)
    assert error.metadata["field"] == "path"


async def test_links_and_devices_are_refused(place):
    """A symbolic link, a hard link and a pipe that somebody put there lead nowhere."""
    folder = tenant_folder(place, "linked")
    (folder / "soft").symlink_to(place / "beside")
    (folder / "up").symlink_to("..")
    os.link(place / "beside", folder / "hard")
    os.mkfifo(folder / "pipe")
    for name in ("soft", "up/beside", "hard", "pipe"):
        error = await refusal(place, f"desk.folder.read({name!r})", tenant="linked")
        assert error.reason == Reason.PATH_REFUSED, name


@pytest.mark.parametrize(
    "source",
    [
        "open('/etc/passwd')",
        "open(os.readlink('/proc/self/cwd') + '/x')",
        "os.listdir('/')",
        "os.symlink('/etc/passwd', 'link')",
        "os.link('note', 'again')",
        "os.mkfifo('pipe')",
        "os.chown('note', 0, 0)",
    ],
)
async def test_the_kernel_refuses_what_the_paths_would_not(place, source):
    """Python itself, in a stranger's hands, gets nothing outside the folder either."""
    text = f"try:\n    {source}\nexcept OSError as error:\n    result = error.errno"
    errno = await obey(
        place, "desk.folder.write('note', b'x'); os.fchdir(desk.folder.descriptor)\n" + text
    )
    assert errno in (1, 2, 13)


@pytest.mark.parametrize("source", ["socket.socket()", "os.fork()", "os.execv('/bin/true', ['x'])"])
async def test_what_is_never_meant_well_kills(place, source):
    """A socket, a fork or another program ends the process, and the caller is told it ended."""
    error = await refusal(place, source, timeout_s=20.0)
    assert error.reason == Reason.TOOL_WORKER_LOST


async def test_limits_are_named(place):
    """Time, memory and size of the answer: each limit answers with its own reason."""
    spin = await refusal(place, "while True: pass")
    assert spin.reason == Reason.TOOL_CPU_LIMIT
    wait = await refusal(place, "time.sleep(60)", timeout_s=1.0)
    assert wait.reason == Reason.TOOL_TIME_LIMIT
    memory = await refusal(place, "result = [bytes(1 << 20) for _ in range(1000)]")
    assert memory.reason == Reason.TOOL_MEMORY_LIMIT
    size = await refusal(place, "result = bytes(4 << 20)")
    assert size.reason == Reason.TOOL_RESULT_LIMIT
    with pytest.raises(ServiceError) as caught:
        await obey(place, "desk.folder.write('big', bytes(2 << 20))")
    assert caught.value.reason in (Reason.FILES_FULL, Reason.TOOL_FAILED)


async def test_a_connection_comes_from_the_host(place):
    """A tool gets a connected socket for what it asked, and the refusal where there is one."""
    ours, theirs = socket.socketpair()

    async def connect(host, port, timeout_s):
        assert (host, port, timeout_s) == ("example.org", 80, 2.0)
        return os.dup(theirs.fileno())

    with ours, theirs:
        source = "s = desk.connect('example.org', 80, 2.0); s.sendall(b'hello'); result = 'sent'"
        asked = {"tool": "obey-with-network", "connect": connect}
        assert await obey(place, source, **asked) == "sent"
        assert ours.recv(10) == b"hello"
    source = "desk.connect('example.org', 80, 2.0)"
    error = await refusal(place, source, tool="obey-with-network")
    assert error.reason == Reason.ADDRESS_REFUSED


async def test_a_program_stays_in_the_jail(place):
    """Another program runs, in the tenant's folder, and reads nothing outside it."""
    source = (
        "import subprocess\n"
        "os.fchdir(desk.folder.descriptor)\n"
        "done = subprocess.run(['/bin/cat', '/etc/passwd'], capture_output=True)\n"
        "fine = subprocess.run(['/bin/echo', 'hello'], capture_output=True)\n"
        "result = [done.returncode, done.stdout, fine.stdout]"
    )
    code, read, said = await obey(place, source, tool="obey-with-programs")
    assert (code, read, said) == (1, b"", b"hello\n")


@pytest.mark.parametrize(
    "source",
    [
        "s = socket.socket(fileno=FD); s.sendall(b'\\xff' * 100)",
        "s = socket.socket(fileno=FD); s.sendall(pack(Kind.RESULT, b'\\xc1'))",
        "s = socket.socket(fileno=FD); s.sendall(pack(Kind.FAILURE, b'{'))",
        "s = socket.socket(fileno=FD); s.sendall(pack(Kind.CALL, b'[]'))",
        "s = socket.socket(fileno=FD); s.sendall(pack(Kind.OUTPUT, b''))",
        "os._exit(0)",
    ],
)
async def test_a_process_that_breaks_the_protocol_is_lost(place, source):
    """What a stranger says instead of the protocol ends that execution alone."""
    source = source.replace("FD", "desk._sock.fileno()") + "; time.sleep(9)"
    error = await refusal(place, source, timeout_s=20.0)
    assert error.reason in (Reason.TOOL_WORKER_LOST, Reason.TOOL_RESULT_LIMIT)
    await asyncio.sleep(0)


async def test_a_process_that_fills_the_folder_is_ended(place):
    """A tool that writes file after file without counting is ended soon after the limit."""
    source = (
        "os.fchdir(desk.folder.descriptor)\n"
        "for number in range(200):\n"
        "    with open(str(number), 'wb') as file: file.write(bytes(1 << 20))\n"
        "time.sleep(4)"
    )
    limits = FileLimits(bytes_max=2 << 20)
    error = await refusal(place, source, tenant="full", limits=limits)
    assert error.reason == Reason.FILES_FULL
    left = await refusal(place, "desk.folder.write('x', b'x')", tenant="full", limits=limits)
    assert left.reason == Reason.FILES_FULL
    await obey(place, "desk.folder.remove('1', recursive=False)", tenant="full", limits=limits)


async def test_nothing_outlives_its_execution(place):
    """A process that a tool has left behind, with children of its own, is ended with it."""
    source = (
        "if os.fork():\n"
        "    time.sleep(0.3); result = 1\n"
        "else:\n"
        "    os.setsid(); os.fork(); os.fchdir(desk.folder.descriptor)\n"
        "    while True:\n"
        "        with open('alive', 'a') as file: file.write('x')\n"
        "        time.sleep(0.01)"
    )
    await obey(place, source, tool="obey-with-programs", tenant="stray")
    alive = tenant_folder(place, "stray") / "alive"
    await asyncio.sleep(0.2)
    size = alive.stat().st_size
    await asyncio.sleep(0.2)
    assert size == alive.stat().st_size > 0


@pytest.mark.parametrize(
    "source",
    [
        "libc.syscall(88, b'/etc/passwd', b'link')",
        "libc.syscall(266, b'/etc/passwd', -100, b'link')",
        "libc.syscall(86, b'note', b'again')",
        "libc.syscall(265, -100, b'note', -100, b'again', 0)",
        "libc.syscall(133, b'pipe', 0o10600, 0)",
        "libc.syscall(259, -100, b'pipe', 0o10600, 0)",
        "libc.syscall(285, os.open('note', os.O_RDWR), 1, 0, 1 << 30)",
        "libc.syscall(62, 1, 9)",
        "libc.syscall(234, 1, 1, 9)",
        "libc.syscall(254, libc.syscall(294, 0), b'.', 2)",
    ],
    ids=["symlink", "symlinkat", "link", "linkat", "mknod", "mknodat", "fallocate", "kill",
         "tgkill", "inotify"],
)  # fmt: skip
async def test_no_links_devices_signals_or_hidden_bytes(place, source):
    """Nothing but plain files and folders can be made, even where programs may be started."""
    begin = "desk.folder.write('note', b'x'); os.fchdir(desk.folder.descriptor)\n"
    said = await obey(place, f"{begin}result = {source}", tool="obey-with-programs")
    assert said == -1


async def test_another_process_of_the_same_user_is_out_of_reach(place):
    """Which may be another tenant's: its limits, its signals by way of a descriptor's owner."""
    source = (
        "child = os.fork()\n"
        "if not child: time.sleep(2); os._exit(0)\n"
        "r, w = os.pipe()\n"
        "limits = (0).to_bytes(16, 'little')\n"
        "result = [\n"
        "    libc.syscall(302, child, 0, limits, None),\n"
        "    libc.syscall(72, r, 8, child), libc.syscall(72, r, 10, 9),\n"
        "    libc.syscall(16, r, 0x8901, child.to_bytes(4, 'little')),\n"
        "    libc.syscall(203, child, 8, (1).to_bytes(8, 'little')),\n"
        "    libc.syscall(302, 0, 0, None, bytes(16)), libc.syscall(72, r, 1, 0),\n"
        "]"
    )
    said = await obey(place, source, tool="obey-with-programs")
    assert said == [-1, -1, -1, -1, -1, 0, 1]
