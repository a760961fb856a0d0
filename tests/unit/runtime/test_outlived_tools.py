"""Tools' processes that outlive the runtime that asked for them: it is killed, truly."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import pytest_asyncio

from services.common.clock import SystemClock
from services.common.errors import Reason
from services.runtime.tools.receipts import Receipts
from tests.unit.runtime.receipt_parts import ZYGOTE, claim_of
from tests.unit.runtime.tooling import caller, open_toolbox, refusal, tenant_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[3]
APPEND = "desk.folder.write(str(time.monotonic_ns()), b'x');"
FORGED = """
import zlib, struct
data, kind = b'nonsense', 19
checksum = zlib.crc32(data, zlib.crc32(struct.pack('<IB', len(data), kind)))
for fd in range(3, 30):
    try: os.pwrite(fd, b'b' + struct.pack('<IBI', len(data), kind, checksum) + data, 0)
    except OSError: pass
os._exit(0)
"""
LATE = "try: desk.connect('h', 80, 1)\nexcept Exception: pass"
WAIT = "desk._sock.recv(1);"
"""Until the host is gone."""
DOOMED = {
    "ends": ("obey-with-files", f"{APPEND} {WAIT} {APPEND} result = 'done'"),
    "fails": ("obey-with-files", f"{WAIT} desk.folder.read('nothing')"),
    "ended": ("obey-with-files", f"{APPEND} time.sleep(60)"),
    "endless": ("obey-with-files", f"{APPEND} time.sleep(60)"),
    "late": ("obey-with-network", f"{WAIT}\n{LATE}"),
    "late-with-files": ("obey-with-files", f"{APPEND} {WAIT}\n{LATE}"),
    "forges": ("obey", f"{WAIT}{FORGED}"),
}
"""By tenant: what was in a process when its runtime was killed."""


class After:
    """What is left of a runtime that was killed under all of `DOOMED`, and the next one."""

    def __init__(self, folder):
        self.folder = folder
        self.receipts = Receipts(folder, SystemClock())
        self.names = {tenant: self.receipts.new_name() for tenant in DOOMED}
        self.begun_ns = SystemClock().now_ns()
        self.zygote = 0
        self.toolbox = None

    async def kill(self):
        """Let a runtime begin it all, and kill it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.unit.runtime.doomed_host",
            str(self.folder),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        process.stdin.write(json.dumps(self.orders).encode())
        process.stdin.close()
        self.zygote = int(await process.stdout.readline())
        while not self.have_begun:  # noqa: ASYNC110 - it is in other processes
            await asyncio.sleep(0.01)
        process.kill()
        await process.wait()
        for pid in self.processes_of("ended"):
            os.kill(pid, signal.SIGKILL)

    @property
    def orders(self):
        return [
            {
                "tenant": tenant,
                "tool": tool,
                "source": source,
                "receipt": self.names[tenant],
                "timeout_s": 3 if tenant == "endless" else 25,
            }
            for tenant, (tool, source) in DOOMED.items()
        ]

    @property
    def have_begun(self):
        paths = [
            self.receipts._path(tenant, name.partition(".")[2])
            for tenant, name in self.names.items()
        ]
        return all(path.exists() and path.stat().st_size for path in paths) and all(
            self.files(tenant) for tenant, (_, source) in DOOMED.items() if APPEND in source
        )

    def processes_of(self, tenant):
        """Those that have this tenant's receipt."""
        wanted = self.names[tenant].partition(".")[2]
        for pid in Path(f"/proc/{self.zygote}/task/{self.zygote}/children").read_text().split():
            with contextlib.suppress(FileNotFoundError):  # another one's, which has just ended
                links = [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()]
                if any(link.endswith(wanted) for link in links):
                    yield int(pid)

    def files(self, tenant):
        """How many its executions have written."""
        return sum(one.is_file() for one in tenant_folder(self.folder, tenant).iterdir())

    def again(self, tenant, source=f"{APPEND} result = 'again'"):
        """What the next runtime says."""
        claim = claim_of(self.names[tenant], begun_ns=self.begun_ns)
        tool = DOOMED[tenant][0]
        return self.toolbox.execute(
            tool, {"source": source}, caller(tenant), claim=claim, timeout_s=10
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def after(tmp_path_factory):
    made = After(tmp_path_factory.mktemp("outlived"))
    await made.kill()
    async with open_toolbox(made.folder, zygote=ZYGOTE, receipts=made.receipts) as made.toolbox:
        yield made


async def test_one_ends_what_it_has_begun_and_that_is_its_result(after):
    """The next runtime waits for it, and nothing is written twice."""
    assert (await after.again("ends")).result == "done"
    assert after.files("ends") == 2


async def test_its_failure_is_its_result_too(after):
    """As it would have been told."""
    error = await refusal(after.again("fails"))
    assert error.reason == Reason.FILE_NOT_FOUND
    assert after.files("fails") == 0


async def test_one_that_was_killed_too_is_not_known(after):
    """It had begun; nobody does it again."""
    error = await refusal(after.again("ended"))
    assert error.reason == Reason.WORKFLOW_STEP_UNKNOWN
    assert after.files("ended") == 1


async def test_one_that_wants_its_first_connection_then_is_done_again(after):
    """Nothing can have happened without one."""
    assert (await after.again("late", "result = 'now'")).result == "now"


async def test_one_that_has_seen_its_files_is_not_done_again(after):
    """It might have written before it wanted a connection."""
    error = await refusal(after.again("late-with-files"))
    assert error.reason == Reason.WORKFLOW_STEP_UNKNOWN
    assert after.files("late-with-files") == 1


async def test_what_a_stranger_writes_is_no_result(after):
    """Whole by its checksum, and still read as a frame is: nonsense is not known."""
    error = await refusal(after.again("forges"))
    assert error.reason == Reason.WORKFLOW_STEP_UNKNOWN


async def test_one_that_never_ends_ends_itself_and_all_are_gone_then(after):
    """Its time is what it was, and nobody else is there to end it; its zygote is the last."""
    error = await refusal(after.again("endless"))
    assert error.reason == Reason.WORKFLOW_STEP_UNKNOWN
    assert after.files("endless") == 1
    deadline = time.monotonic() + 20
    while Path(f"/proc/{after.zygote}/exe").exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_runtime_that_ends_itself_leaves_what_it_is_to_leave(after, tmp_path):
    """Tools of workflows go on; any other is ended with its call."""
    receipts = Receipts(tmp_path, SystemClock())
    begun_ns = SystemClock().now_ns()
    names = {True: receipts.new_name(), False: receipts.new_name()}
    source = f"{APPEND} {WAIT} {APPEND} result = 'done'"
    async with open_toolbox(tmp_path, zygote=ZYGOTE, receipts=receipts) as toolbox:
        going = [
            asyncio.create_task(
                toolbox.execute(
                    "obey-with-files",
                    {"source": source},
                    caller(f"left-{is_left}".lower()),
                    claim=claim_of(name, is_left=lambda is_left=is_left: is_left),
                )
            )
            for is_left, name in names.items()
        ]
        for is_left in names:
            folder = tenant_folder(tmp_path, f"left-{is_left}".lower())
            while not any(one.is_file() for one in folder.iterdir()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
    after.toolbox.receipts, was = receipts, after.toolbox.receipts
    try:
        for is_left, name in names.items():
            again = after.toolbox.execute(
                "obey-with-files",
                {"source": source},
                caller(f"left-{is_left}".lower()),
                claim=claim_of(name, begun_ns=begun_ns),
            )
            if is_left:
                assert (await again).result == "done"
            else:
                assert (await refusal(again)).reason == Reason.WORKFLOW_STEP_UNKNOWN
    finally:
        after.toolbox.receipts = was


async def test_what_was_told_here_is_done_again_where_a_hook_wants_it(after):
    """The same claim again in one process: what came of it is known, so it is another try."""
    name = after.receipts.new_name()
    for claim in (claim_of(name), claim_of(name), claim_of(name, begun_ns=after.begun_ns)):
        done = await after.toolbox.execute(
            "obey-with-files", {"source": APPEND}, caller("again"), claim=claim
        )
        assert done.failure is None
    assert after.files("again") == 3
    wrong = {"source": "desk.folder.read('nothing')"}
    for _ in range(2):
        error = await refusal(
            after.toolbox.execute("obey-with-files", wrong, caller("again"), claim=claim_of(name))
        )
        assert error.reason == Reason.FILE_NOT_FOUND


FDS = """
def kinds():
    for fd in range(64):
        try: yield fd, os.fstat(fd).st_mode >> 12
        except OSError: pass
"""
GROW = """
import resource
fd = [fd for fd, kind in kinds() if kind == 8][0]
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
os.pwrite(fd, b'x', (1 << 21) - 1)
try: os.pwrite(fd, b'x', 1 << 22); result = 'grown'
except OSError as error: result = error.errno
"""


async def test_the_receipt_is_all_that_its_process_is_given_more(after):
    """One descriptor, of a file that it can make as large as a frame and no larger."""

    async def obey(source, *, claimed=True):
        claim = claim_of(after.receipts.new_name()) if claimed else None
        given = {"source": FDS + source}
        done = await after.toolbox.execute("obey-with-network", given, caller(), claim=claim)
        return done.result

    held = "result = sorted(kind for _, kind in kinds())"
    assert await obey(held) == sorted([*await obey(held, claimed=False), 8])
    assert await obey(GROW) == 27
