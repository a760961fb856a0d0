"""A worker in a stranger's hands: Python in place of Lua, behind the same jail."""

import errno
import signal
import socket
import threading

import pytest
import pytest_asyncio

from services.common.errors import ServiceError
from services.runtime import runs, watch
from services.runtime import zygote as zygote_module
from services.runtime.frames import Kind, pack
from services.runtime.pool import WorkerPool
from services.runtime.runs import Reply
from services.runtime.worker import seccomp
from services.runtime.worker.bridge import NO_ROOM, Bridge
from tests.unit.runtime.running import run

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hostile():
    async with WorkerPool(zygote="tests.unit.runtime.hostile_zygote") as pool:
        yield pool


KILLED = {
    "open": "os.open('/etc/passwd', os.O_RDONLY)",
    "create": "open('/tmp/x', 'w')",
    "socket": "socket.socket()",
    "socketpair": "socket.socketpair()",
    "fork": "os.fork()",
    "exec": "os.execv('/bin/true', ['true'])",
    "kill": "os.kill(os.getppid() or 1, 9)",
    "kill itself": "os.kill(0, 15)",
    "thread": "import _thread; _thread.start_new_thread(print, ())",
    "ptrace": "libc.ptrace(16, 1, 0, 0)",
    "memfd": "os.memfd_create('x')",
    "pidfd": "os.pidfd_open(1)",
    "unshare": "libc.unshare(0x10000000)",
    "executable memory": "libc.mmap(None, 4096, 7, 0x22, -1, 0)",
    "bpf": "libc.syscall(321, 0, 0, 0)",
    "io_uring": "libc.syscall(425, 1, 0)",
    "x32 call": "libc.syscall(0x40000000 + 39)",
}


@pytest.mark.parametrize("code", KILLED.values(), ids=KILLED)
async def test_what_is_never_meant_well_kills(hostile, code):
    """The process is gone with SIGSYS and the run says it was lost."""
    if not hostile.layers["seccomp"]:
        pytest.skip("no seccomp here")
    ran = await run(hostile, f"{code}\nout('still here')")
    assert ran.reason == "RUN_WORKER_LOST"
    assert ran.error.metadata["status"] == str(-signal.SIGSYS)
    assert ran.output == b""


REFUSED = {
    "stat": "os.stat('/')",
    "getcwd": "os.getcwd()",
    "dup": "os.dup(sock.fileno())",
    "setuid": "os.setuid(0)",
    "affinity": "os.sched_setaffinity(0, [0])",
    "chdir": "os.chdir('/')",
    "unlink": "os.unlink('/tmp/x')",
    "pass a descriptor": "socket.send_fds(sock, [b'x'], [sock.fileno()])",
    "raise a limit": "if libc.setrlimit(0, bytes(16)): raise OSError(1, 'refused')",
    "pipe": "os.pipe()",
    "rename": "os.rename('/a', '/b')",
}


@pytest.mark.parametrize("code", REFUSED.values(), ids=REFUSED)
async def test_every_other_call_is_refused(hostile, code):
    """Unknown calls fail with EPERM, so that Python can do without them."""
    if not hostile.layers["seccomp"]:
        pytest.skip("no seccomp here")
    source = f"try:\n  {code}\n  out('allowed')\nexcept OSError as e:\n  out(e.errno)"
    ran = await run(hostile, source)
    assert ran.output == b"1"


BENEATH = {
    "make a folder": ("os.mkdir('/tmp/llmspell-jail-probe')", errno.EACCES),
    "read a file": ("os.open('/etc/passwd', os.O_RDONLY)", errno.EMFILE),
    "list a folder": ("os.listdir('/')", errno.EMFILE),
    "fork": ("os.fork()", errno.EAGAIN),
    "signal another": ("os.kill(os.getppid(), 0)", errno.EPERM),
    "trace another": ("if libc.ptrace(16, os.getppid(), 0, 0): raise OSError(1, '')", errno.EPERM),
    "become root": ("os.setuid(0)", errno.EPERM),
}


@pytest.mark.parametrize(("code", "number"), BENEATH.values(), ids=BENEATH)
async def test_the_layers_beneath_the_filter_hold_alone(code, number):
    """Without seccomp, Landlock, limits and the user still refuse."""
    async with WorkerPool(zygote="tests.unit.runtime.unfiltered_zygote") as pool:
        assert pool.layers["seccomp"] is False
        if not pool.layers["landlock"] or pool.layers["user"] != "nobody":
            pytest.skip("no Landlock here, or started without the right to change user")
        ran = await run(
            pool, f"try:\n  {code}\n  out('allowed')\nexcept OSError as e: out(e.errno)"
        )
    assert ran.output == str(number).encode()


async def test_nothing_of_the_host_is_in_reach(hostile):
    """Environment, arguments and descriptors hold no secret."""
    ran = await run(hostile, "out(dict(os.environ)); out(sys.argv[3:] == sys.path[-2:])")
    assert ran.output == b"{'TZ': 'UTC0'}True"


async def test_memory_has_a_second_line(hostile):
    """Beyond the Lua heap the address space is limited."""
    source = "try:\n  x = bytearray(200 << 20)\n  out('got it')\nexcept MemoryError: out('refused')"
    ran = await run(hostile, source)
    assert ran.output == b"refused"


async def test_an_unknown_machine_has_no_filter(monkeypatch):
    """The layer is reported as off instead of using another machine's numbers."""
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert seccomp.install(None) is False


class Heap:
    """What the bridge asks of a VM."""

    def __init__(self):
        self.used = 0
        self.limits = []

    def get_memory_used(self):
        """Bytes."""
        return self.used

    def set_max_memory(self, limit):
        """Kept."""
        self.limits.append(limit)


async def test_a_reply_lifts_the_heap_or_waits():
    """Before a push there is room; past the ceiling an integer comes back, then a second try."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        heap, bridge = Heap(), Bridge()
        bridge.open(theirs)
        bridge.limit(heap, memory_bytes=1_000_000, frame_bytes=2_000_000)
        reply = pack(Kind.REPLY, b"\0" + b"x" * 500_000)
        feeder = threading.Thread(target=lambda: [ours.sendall(reply) for _ in range(3)])
        feeder.start()
        assert bridge(b"c", b"call") == (0, b"x" * 500_000)
        assert heap.limits == [1_000_000, 1_000_000, 1_000_000]
        heap.used = 900_000
        assert bridge(b"c", b"call") == (0, b"x" * 500_000)
        assert heap.limits[-1] == 900_000 + 500_001 + 64 * 1024
        heap.used = 2_600_000
        assert bridge(b"c", b"call") == NO_ROOM
        assert heap.limits[-1] == 1_000_000
        heap.used = 0
        assert bridge(b"a", b"") == (0, b"x" * 500_000)
        feeder.join()


BROKEN = {
    "random bytes": "sock.sendall(bytes(range(255, 55, -1)))",
    "oversize": "sock.sendall((1 << 31).to_bytes(4, 'little') + b'\\x11' + b'x' * 100)",
    "just over": "sock.sendall(((2 << 20) + 1).to_bytes(4, 'little') + b'\\x11')",
    "unknown kind": "sock.sendall(b'\\0\\0\\0\\0\\x63')",
    "host's kind": "sock.sendall(pack(Kind.REPLY, b'x'))",
    "ready twice": "sock.sendall(pack(Kind.READY))",
    "half a header": "sock.sendall(b'\\0\\0')",
    "half a frame": "sock.sendall(pack(Kind.OUTPUT, b'x' * 100)[:50])",
    "output of nothing": "while True: sock.sendall(pack(Kind.OUTPUT))",
    "call of nothing": "sock.sendall(pack(Kind.CALL)); receive(sock)",
    "call of noise": "sock.sendall(pack(Kind.CALL, b'\\xc1' * 99)); receive(sock)",
    "call of a list": "sock.sendall(pack(Kind.CALL, b'\\x90')); receive(sock)",
    "call, bad text": "sock.sendall(pack(Kind.CALL, b'\\x81\\xa6method\\xa1\\xff')); receive(sock)",
    "call, deep": "sock.sendall(pack(Kind.CALL, b'\\x91' * 1000000)); receive(sock)",
    "call, wide": "sock.sendall(pack(Kind.CALL, b'\\xdd\\x7f\\xff\\xff\\xff')); receive(sock)",
    "result of noise": "sock.sendall(pack(Kind.RESULT, b'{'))",
    "result, bad utf-8": "sock.sendall(pack(Kind.RESULT, b'\"\\xff\"'))",
    "result, deep": "sock.sendall(pack(Kind.RESULT, b'[' * 1000000))",
    "failure of noise": "sock.sendall(pack(Kind.FAILURE, b'nonsense'))",
    "failure, odd types": 'sock.sendall(pack(Kind.FAILURE, b\'{"kind": [], "message": 3}\'))',
    "nothing": "",
    "exit": "os._exit(0)",
    "crash": "libc.memset(8, 0, 8)",
}


@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN)
async def test_a_worker_that_breaks_the_protocol_is_lost(hostile, code):
    """Whatever it sends instead of frames, the run ends with one reason and the host is well."""
    ran = await run(hostile, code)
    assert ran.reason == "RUN_WORKER_LOST"
    assert "did not finish" in ran.error.message


SLOW = {
    "drip": "for b in pack(Kind.OUTPUT, b'x' * 999): sock.sendall(bytes([b])); time.sleep(0.05)",
    "stall": "sock.sendall(pack(Kind.OUTPUT, b'x' * 100)[:50]); receive(sock)",
}


@pytest.mark.parametrize("code", SLOW.values(), ids=SLOW)
async def test_a_frame_must_end_in_time(hostile, code, monkeypatch):
    """A frame begun is a frame finished, or the worker is lost before its deadline."""
    monkeypatch.setattr(zygote_module, "FRAME_SECONDS", 0.2)
    ran = await run(hostile, code, wall_s=10)
    assert ran.reason == "RUN_WORKER_LOST"


async def test_a_worker_that_never_reads_is_lost(hostile, monkeypatch):
    """Writing to it has a deadline of its own."""
    monkeypatch.setattr(zygote_module, "FRAME_SECONDS", 0.2)

    source = """
call = b'\\x82\\xa6method\\xa3m/x\\xa4args\\x80'
for _ in range(3): sock.sendall(pack(Kind.CALL, call))
time.sleep(20)
"""

    async def answer(call):
        return Reply(ok=True, tree="x" * 1_500_000)

    ran = await run(hostile, source, answer, wall_s=10)
    assert ran.reason == "RUN_WORKER_LOST"


async def test_a_worker_that_dies_before_it_has_read_its_answer_is_lost(hostile):
    """The kernel calls that a reset connection; for the run it is an end like any other."""
    call = "pack(Kind.CALL, b'\\x82\\xa6method\\xa3m/x\\xa4args\\x80')"
    source = f"""
sock.sendall({call})
while len(sock.recv(100, 2)) < 100: pass
os._exit(0)
"""

    async def answer(call):
        return Reply(ok=True, tree="x" * 100_000)

    ran = await run(hostile, source, answer)
    assert ran.reason == "RUN_WORKER_LOST"


async def test_silence_ends_with_the_clock(hostile):
    """A worker that says nothing is a run that takes too long."""
    ran = await run(hostile, "receive(sock)", wall_s=0.3)
    assert ran.reason == "RUN_TIME_LIMIT"


async def test_a_hostile_failure_is_cut(hostile):
    """Text of a failure is short whatever the worker sends."""
    source = """
text = b'y' * 600000
body = b'{"kind":"error","message":"%s","traceback":"%s","reason":"%s"}' % (text, text, text)
sock.sendall(pack(Kind.FAILURE, body))
"""
    ran = await run(hostile, source)
    assert ran.reason == "SCRIPT_FAILED"
    assert len(ran.error.message) == 2048
    assert all(len(value) <= 2048 for value in ran.error.metadata.values())


async def test_output_and_calls_are_counted_outside(hostile):
    """A worker that ignores its own limits meets the host's."""
    ran = await run(hostile, "while True: out('x' * 50000)", output_bytes=100_000)
    assert ran.reason == "RUN_OUTPUT_LIMIT"
    call = "pack(Kind.CALL, b'\\x82\\xa6method\\xa3m/x\\xa4args\\x80')"

    async def answer(call):
        return Reply(ok=True, tree=None)

    source = f"while True:\n  sock.sendall({call})\n  receive(sock)"
    ran = await run(hostile, source, answer, calls_max=3)
    assert ran.reason == "RUN_CALL_LIMIT"


async def test_blocking_the_soft_limit_gains_one_second(hostile):
    """SIGXCPU can be ignored by a stranger, the kill behind it cannot."""
    ran = await run(hostile, "libc.signal(24, 1)\nwhile True: pass", cpu_s=0.5)
    assert ran.reason == "RUN_CPU_LIMIT"


async def test_a_worker_that_hangs_up_and_stays_is_killed(hostile, monkeypatch):
    """Closing the socket without ending gains a moment, not a life."""
    monkeypatch.setattr(watch, "_EXIT_SECONDS", 0.1)
    ran = await run(hostile, "sock.close()\nwhile True: pass")
    assert ran.reason == "RUN_WORKER_LOST"
    assert ran.error.metadata["status"] == str(-signal.SIGKILL)


async def test_a_check_makes_no_calls(hostile):
    """A worker that calls while it should only compile is ended."""
    source = (
        "sock.sendall(pack(Kind.CALL, b'\\x82\\xa6method\\xa3m/x\\xa4args\\x80'))\nreceive(sock)"
    )
    with pytest.raises(ServiceError, match="only checked made a call"):
        await runs.check_script(hostile, source)
