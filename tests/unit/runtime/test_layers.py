"""Each kernel layer alone: a worker tries what it forbids, with every other layer off.

Every attempt is made twice, before and after the layer is put on, so that a layer which does
nothing, or an attempt which cannot succeed anyway, fails its test.
"""

import os
import shutil
import signal
import socket
import tempfile
import textwrap
from pathlib import Path

import pytest
import pytest_asyncio

from services.runtime.pool import WorkerPool
from tests.unit.runtime.running import run
from tests.unit.runtime.test_worker import KILLED, REFUSED

pytestmark = pytest.mark.asyncio(loop_scope="module")

AS_ROOT = os.geteuid() == 0
USERS = ["root", "an ordinary user"] if AS_ROOT else ["an ordinary user"]
USER_ID = 54321
BEGIN = """
import errno, resource, signal, stat, struct
from services.runtime.worker import sandbox, seccomp

OPEN = dict(descriptors=1024, file_bytes=1 << 40, processes=None)

def tried(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    except MemoryError:
        return "MemoryError"
    return "done"

def forked(work):
    '''What a child came to: its exit status, or the signal that ended it.'''
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), os.WCOREDUMP(status)

def limited(**profile):
    sandbox._limit({}, sandbox.Profile(**{**OPEN, **profile}))
"""
BECOME = f"""
os.setgroups([])
os.setresgid({USER_ID}, {USER_ID}, {USER_ID})
os.setresuid({USER_ID}, {USER_ID}, {USER_ID})
libc.prctl(4, 1, 0, 0, 0)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bare():
    async with WorkerPool(zygote="tests.unit.runtime.bare_zygote") as pool:
        yield pool


@pytest.fixture
def place():
    """A folder that every user may change."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o777)
        yield path


async def before_and_after(bare, user, layer, attempt):
    """What an attempt comes to without the layer, and with nothing but the layer."""
    return await alone(bare, user, "pass", attempt), await alone(bare, user, layer, attempt)


async def alone(bare, user, layer, attempt):
    """What a worker said in a jail of one layer; where it said nothing, how it ended."""
    source = BEGIN + (BECOME if AS_ROOT and user != "root" else "") + textwrap.dedent(attempt)
    ran = await run(bare, source.replace("LAYER()", layer))
    return ran.output.decode() or ran.error.metadata["status"]


@pytest.mark.parametrize("user", USERS)
async def test_descriptors_are_closed(bare, user):
    """A file that was open is no more; the socket is."""
    attempt = """
        opened = os.open("/dev/null", os.O_RDONLY)
        LAYER()
        out(tried(lambda: os.read(opened, 1)))
    """
    layer = "sandbox._close_all_but(sock.fileno())"
    assert await before_and_after(bare, user, layer, attempt) == ("done", "EBADF")


async def test_the_environment_was_never_there(bare, monkeypatch):
    """What the host has in its environment is not in the first pages of a worker either."""
    ran = await run(bare, "out(open('/proc/self/environ').read() + repr(dict(os.environ)))")
    assert ran.output == b"{'TZ': 'UTC0'}"
    assert len(os.environ) > 1


async def test_it_is_the_first_to_go(bare):
    """When memory runs out the kernel takes the worker and no service."""
    attempt = "LAYER()\nout(open('/proc/self/oom_score_adj').read().strip())"
    before, after = await before_and_after(bare, "root", "sandbox._first_to_go()", attempt)
    assert (int(before) < 1000, after) == (True, "1000")


@pytest.mark.skipif(not AS_ROOT, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("attempt", "refusal"),
    [
        ("os.setuid(0)", "EPERM"),
        ("os.setgroups([0])", "EPERM"),
        ("os.open(SECRET, os.O_RDONLY)", "EACCES"),
        ("os.kill(os.getppid(), 0)", "EPERM"),
        ("os.listdir(f'/proc/{os.getppid()}/fd')", "EACCES"),
        ("os.setpriority(os.PRIO_PROCESS, 0, -5)", "EACCES"),
        ("os.chroot('/')", "EPERM"),
        ("os.mknod('/tmp/llmspell-probe', stat.S_IFBLK | 0o600)", "EPERM"),
    ],
)
async def test_the_user_is_nobody(bare, place, attempt, refusal):
    """As nobody it has no right of root's, nor another user's file."""
    secret = place / "secret"
    secret.write_text("s")
    secret.chmod(0o600)
    source = f"SECRET = {str(secret)!r}\nLAYER()\nout(tried(lambda: {attempt}))"
    source += "\ntried(lambda: os.unlink('/tmp/llmspell-probe'))"
    told = await before_and_after(bare, "root", "sandbox._drop_user()", source)
    assert told == ("done", refusal)


async def test_nobody_looks_into_it(bare):
    """Another process of the same user may not read its memory."""
    attempt = """
        LAYER()
        own = os.getpid()
        def look():
            os._exit(0 if tried(lambda: open(f"/proc/{own}/mem", "rb").close()) == "done" else 1)
        out(forked(look)[0])
    """
    told = await before_and_after(bare, "an ordinary user", "sandbox._hide()", attempt)
    assert told == ("0", "1")


@pytest.mark.skipif(not AS_ROOT, reason="only root can make a program of root's")
async def test_no_program_brings_new_rights(bare, place):
    """A program of root's that is set-uid runs as whoever starts it."""
    program = place / "become"
    shutil.copyfile("/usr/bin/id", program)
    program.chmod(0o4755)
    attempt = f"""
        LAYER()
        read, write = os.pipe()
        def become():
            os.dup2(write, 1)
            os.execv({str(program)!r}, ["id", "-u"])
        forked(become)
        out(os.read(read, 100).decode().strip())
    """
    told = await before_and_after(bare, "an ordinary user", "sandbox._keep_to_rights()", attempt)
    if told[0] != "0":
        pytest.skip("set-uid programs are off on this disk")
    assert told == ("0", str(USER_ID))


# An ordinary user may put Landlock on only after having given up new rights.
LANDLOCK_ALONE = "sandbox._keep_to_rights(); sandbox._landlock(sandbox.SCRIPT)"
LANDLOCK = {
    "read a file": ("os.open('/etc/passwd', os.O_RDONLY)", "EACCES", 1),
    "list a folder": ("os.listdir('/etc')", "EACCES", 1),
    "make a file": ("os.close(os.open(NEW, os.O_CREAT | os.O_RDWR))", "EACCES", 1),
    "make a folder": ("os.mkdir(NEW)", "EACCES", 1),
    "make a link": ("os.symlink('/etc/passwd', NEW)", "EACCES", 1),
    "make a pipe": ("os.mkfifo(NEW)", "EACCES", 1),
    "remove a file": ("os.unlink(PLACE + '/kept')", "EACCES", 1),
    "rename a file": ("os.rename(PLACE + '/kept', PLACE + '/gone')", "EACCES", 1),
    "truncate a file": ("os.truncate(PLACE + '/kept', 0)", "EACCES", 3),
    "run a program": ("os.execv('/bin/true', ['true'])", "EACCES", 1),
    "listen on a port": ("socket.socket().bind(('127.0.0.1', 0))", "EACCES", 4),
    "reach a port": ("socket.socket().connect(('127.0.0.1', PORT))", "EACCES", 4),
    "an abstract socket": ("socket.socket(socket.AF_UNIX).connect(NAME)", "EPERM", 6),
    "signal a stranger": ("os.kill(PARENT, 0)", "EPERM", 6),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(("attempt", "refusal", "abi"), LANDLOCK.values(), ids=LANDLOCK)
async def test_landlock(bare, place, *, user, attempt, refusal, abi):
    """No file, no program, no port, no stranger's process, for root as well."""
    held = (await run(bare, BEGIN + "out(sandbox._landlock(sandbox.SCRIPT))")).output
    if int(held) < abi:
        pytest.skip(f"this kernel's Landlock is older than ABI {abi}")
    if user != "root" and attempt.startswith("os.kill"):
        pytest.skip("an ordinary user may not signal the zygote anyway")
    name = f"\0llmspell-{os.getpid()}-{user}"
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(name)
        abstract.listen()
        source = f"""
            PLACE, PORT, NAME = {str(place)!r}, {port.getsockname()[1]}, {name!r}
            PARENT, NEW = os.getppid(), f"{{PLACE}}/{{os.getpid()}}"
            tried(lambda: open(PLACE + "/kept", "w").close())
            LAYER()
            out(tried(lambda: {attempt}))
        """
        before, after = await before_and_after(bare, user, LANDLOCK_ALONE, source)
    # A program that was started has nothing to say; it ends well.
    assert before == ("0" if "execv" in attempt else "done")
    assert after == refusal


LIMITS = {
    "files": ("limited(descriptors=0)", "os.open('/dev/null', os.O_RDONLY)", "EMFILE"),
    "file size": ("limited(file_bytes=0)", "open(PLACE, 'w').write('x' * 9999)", "EFBIG"),
    "address space": (
        "sandbox._limit({resource.RLIMIT_AS: 300 << 20}, sandbox.Profile(**OPEN))",
        "bytearray(400 << 20)",
        "MemoryError",
    ),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(("layer", "attempt", "refusal"), LIMITS.values(), ids=LIMITS)
async def test_limits_of_the_process(bare, place, *, user, layer, attempt, refusal):
    """Each of them alone, for root as well."""
    source = f"PLACE = {str(place / user)!r}\nLAYER()\nout(tried(lambda: {attempt}))"
    assert await before_and_after(bare, user, layer, source) == ("done", refusal)


async def test_no_second_process(bare):
    """An ordinary user's worker cannot fork; root is not held by this limit, hence the user."""
    attempt = "LAYER()\nout(tried(lambda: forked(lambda: None)))"
    told = await before_and_after(bare, "an ordinary user", "limited(processes=0)", attempt)
    assert told == ("done", "EAGAIN")


@pytest.mark.parametrize("user", USERS)
async def test_processor_time_is_bounded(bare, user):
    """At the limit comes a signal that names its cause; ignoring it gains one second."""
    attempt = """
        def spin():
            import time
            while time.process_time() < 4: pass
        def stubborn():
            signal.signal(signal.SIGXCPU, signal.SIG_IGN)
            spin()
        LAYER()
        out((forked(spin)[0], forked(stubborn)[0]))
    """
    layer = "sandbox._limit({resource.RLIMIT_CPU: 1}, sandbox.Profile(**OPEN))"
    assert await alone(bare, user, layer, attempt) == str((-signal.SIGXCPU, -signal.SIGKILL))


async def test_no_core_is_written(bare):
    """A worker that crashes leaves no image of its memory."""
    attempt = "LAYER()\nout(forked(lambda: os.kill(os.getpid(), signal.SIGSEGV)))"
    assert await alone(bare, "root", "limited()", attempt) == f"({-signal.SIGSEGV}, False)"


FILTER = "sandbox._keep_to_rights(); seccomp.install(libc, seccomp.SCRIPT)"


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("code", KILLED.values(), ids=KILLED)
async def test_the_filter_kills(bare, user, code):
    """What is never meant well ends the process, with nothing but the filter."""
    attempt = f"LAYER()\n{code}\nout('still here')"
    assert await alone(bare, user, FILTER, attempt) == str(-signal.SIGSYS)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("code", REFUSED.values(), ids=REFUSED)
async def test_the_filter_refuses(bare, user, code):
    """All other calls fail, with nothing but the filter."""
    attempt = f"LAYER()\ntry:\n  {code}\n  out('done')\nexcept OSError as e:\n  out(e.errno)"
    assert await alone(bare, user, FILTER, attempt) == "1"
