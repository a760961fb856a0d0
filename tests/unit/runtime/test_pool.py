"""The zygote, the spare, and what a worker process holds."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
import pytest_asyncio

from services.common.errors import Reason, ServiceError
from services.runtime.pool import TurnLimits, WorkerLimits, WorkerPool
from services.runtime.runs import RunLimits, RunSpec, run_script
from services.runtime.server import TOOL_ZYGOTE
from tests.unit.runtime.running import Host, no_calls, run

DEFAULT = WorkerLimits()


@pytest_asyncio.fixture
async def pool():
    async with WorkerPool() as made:
        yield made


def status(pid):
    """Fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def limit(pid, name):
    """Soft and hard limit by the name that /proc/PID/limits has."""
    for line in Path(f"/proc/{pid}/limits").read_text("ascii").splitlines():
        if line.startswith(name):
            return line.removeprefix(name).split()[:2]
    raise AssertionError(name)


async def test_a_worker_holds_one_socket_and_nothing_else(pool):
    """Descriptors, environment and memory of a ready worker, read from outside."""
    async with pool.worker(DEFAULT) as worker:
        proc = Path(f"/proc/{worker.pid}")
        links = [str(entry.readlink()) for entry in (proc / "fd").iterdir()]
        assert len(links) == 1
        assert links[0].startswith("socket:")
        assert (proc / "environ").read_bytes() == b""
        mapped = (proc / "maps").read_text("ascii")
        assert "lua54" in mapped
        for stranger in ("cygrpc", "google", "lmdb", "msgspec", "numpy"):
            assert stranger not in mapped
        assert (proc / "oom_score_adj").read_text("ascii").strip() == "1000"


async def test_a_worker_is_held_by_the_kernel(pool):
    """Every layer that the pool reports is on in the process."""
    async with pool.worker(WorkerLimits(8 << 20, 3)) as worker:
        fields = status(worker.pid)
        assert fields["NoNewPrivs"] == "1"
        assert fields["Seccomp"] == ("2" if pool.layers["seccomp"] else "0")
        assert fields["Threads"] == "1"
        if os.geteuid() == 0:
            assert pool.layers["user"] == "nobody"
            assert fields["Uid"].split() == ["65534"] * 4
            assert fields["Groups"] == ""
            assert fields["CapEff"] == "0" * 16
        assert limit(worker.pid, "Max cpu time") == ["3", "4"]
        for name in ("Max file size", "Max open files", "Max processes", "Max core file size"):
            assert limit(worker.pid, name) == ["0", "0"]
        address_space = int(limit(worker.pid, "Max address space")[0])
        assert address_space < int(fields["VmSize"].split()[0]) * 1024 + (8 + 65 << 20)


async def test_the_zygote_knows_nothing(pool):
    """It has an empty environment, one socket, and no service's code."""
    await pool._spare  # while it makes one, it holds that one's socket too
    proc = Path(f"/proc/{pool.zygote_pid}")
    links = [str(entry.readlink()) for entry in (proc / "fd").iterdir()]
    held = [link for link in links if link.startswith("socket:")]
    # Beside it: /dev/null in place of standard streams, and a pidfd for each child.
    assert len(held) == 1
    assert all(link == "/dev/null" or "pidfd" in link for link in set(links) - set(held))
    assert (proc / "environ").read_bytes() == b""
    assert "cygrpc" not in (proc / "maps").read_text("ascii")
    assert status(pool.zygote_pid)["Threads"] == "1"


async def test_default_limits_take_the_spare(pool):
    """The first worker was there before it was asked for; another one takes its place."""
    spare = await pool._spare
    async with pool.worker(DEFAULT) as worker:
        assert worker is spare
        assert (await pool._spare).pid != worker.pid


async def test_other_limits_get_a_worker_of_their_own(pool):
    """The spare is not used for limits it was not made with."""
    spare = await pool._spare
    async with pool.worker(WorkerLimits(cpu_seconds=2)) as worker:
        assert worker is not spare
        assert limit(worker.pid, "Max cpu time") == ["2", "3"]


async def test_who_had_more_leaves_the_spare_to_others(pool, monkeypatch):
    """A tenant with many runs in hand, served more than another: its workers have what is left."""
    async with contextlib.AsyncExitStack() as held:
        await held.enter_async_context(pool.worker(DEFAULT, "many"))
        frozen = time.monotonic()  # what was of late stays so, however slow this machine is
        monkeypatch.setattr(pool.shares, "_monotonic", lambda: frozen)
        pool.shares.use("few", 0.001)
        pool.shares.compute("many", 0.5)
        spare = await pool._spare
        worker = await held.enter_async_context(pool.worker(DEFAULT, "many"))
        assert worker is not spare
        assert os.sched_getscheduler(worker.pid) == os.SCHED_IDLE
        processors = os.sched_getaffinity(0)
        free = processors - os.sched_getaffinity(worker.pid)
        assert len(free) == (len(processors) > 1)
        other = await held.enter_async_context(pool.worker(DEFAULT, "few"))
        assert other is spare
        assert os.sched_getscheduler(other.pid) == os.SCHED_OTHER


async def test_who_runs_one_after_another_has_one_in_hand(pool):
    """A run that has ended counts no more, though its place is free a moment later."""
    async with pool.worker(WorkerLimits(), "acme"), pool.worker(WorkerLimits(), "acme"):
        assert pool._in_hand("acme") == 2
    assert pool.turns.running == 2
    assert pool._in_hand("acme") == 0
    async with pool.worker(WorkerLimits(), "acme"):
        assert pool._in_hand("acme") == 1
        await asyncio.gather(*pool._going)
        assert pool._in_hand("acme") == 1
    await asyncio.gather(*pool._going)
    assert (pool._in_hand("acme"), pool._leaving) == (0, {})


async def test_workers_are_of_the_hosts_session(pool):
    """Priority means nothing between sessions: the kernel weighs each session as a whole."""
    async with pool.worker(DEFAULT) as worker:
        assert os.getsid(worker.pid) == os.getsid(0)
        assert os.getpgid(worker.pid) == pool.zygote_pid != os.getpgid(0)


async def test_a_spare_that_died_is_not_given_out(pool):
    """A dead spare is replaced by a live worker."""
    spare = await pool._spare
    spare.kill()
    await spare.wait()
    async with pool.worker(DEFAULT) as worker:
        assert worker is not spare
        assert worker.alive


async def test_the_end_of_a_worker_is_known(pool):
    """Signal and processor time come back."""
    async with pool.worker(DEFAULT) as worker:
        worker.kill()
        end = await worker.wait()
        assert end.status == -signal.SIGKILL
        assert 0 <= end.cpu_seconds < 5
    assert not Path(f"/proc/{worker.pid}").exists()


async def test_a_zygote_that_dies_is_replaced_and_runs_go_on(pool):
    """A run in flight ends well, the next one has a new zygote."""
    first = pool.zygote_pid
    host = Host()
    host.reached, host.go = asyncio.Event(), asyncio.Event()

    async def hold(call):
        host.reached.set()
        await host.go.wait()
        return await host(call)

    running = asyncio.create_task(run(pool, "State.set('k', 1) return 'well'", hold))
    await host.reached.wait()
    os.kill(first, signal.SIGKILL)
    await pool._zygote.lost.wait()
    host.go.set()
    ran = await running
    assert ran.value == "well"
    # Limits of its own, so that no spare of the first zygote serves.
    assert (await run(pool, "return 1", cpu_s=3)).value == 1
    assert pool.zygote_pid != first


async def test_an_endless_run_is_killed_without_its_zygote(pool):
    """The deadline does not need the zygote either."""
    spec = RunSpec("print(1) while true do end", limits=RunLimits(wall_s=0.5))
    async with contextlib.aclosing(run_script(pool, spec, no_calls)) as events:
        await anext(events)
        os.kill(pool.zygote_pid, signal.SIGKILL)
        with pytest.raises(ServiceError) as caught:
            await anext(events)
    assert caught.value.reason == Reason.RUN_TIME_LIMIT


async def test_places_are_limited():
    """A third run waits until one of two ends."""
    async with (
        WorkerPool(turns=TurnLimits(at_once=2)) as pool,
        pool.worker(DEFAULT),
    ):
        async with pool.worker(DEFAULT):
            third = asyncio.create_task(run(pool, "return 3"))
            for _ in range(10):
                await asyncio.sleep(0)
            assert (pool.turns.running, pool.turns.waiting) == (2, 1)
        assert (await third).value == 3
        while pool.turns.running > 1:  # noqa: ASYNC110 - what has ended well goes by itself
            await asyncio.sleep(0.01)
        assert pool.turns.waiting == 0


async def test_cancelling_while_waiting_for_a_worker_leaves_nothing(pool):
    """No process and no descriptor is left behind, whenever the cancellation comes."""
    await pool._spare
    before = len(list(Path("/proc/self/fd").iterdir()))
    for turns in range(0, 40, 2):
        task = asyncio.create_task(pool.acquire(WorkerLimits(cpu_seconds=5)))
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await task).close()
    assert (await run(pool, "return 1")).value == 1
    await pool._spare
    for _ in range(250):  # on a busy machine the last ends are told late
        after = len(list(Path("/proc/self/fd").iterdir()))
        if after <= before:  # others' may have been let go
            break
        await asyncio.sleep(0.02)
    assert after <= before


async def test_missing_layers_can_be_refused(monkeypatch):
    """With require_kernel_layers a machine without one of them does not start."""
    monkeypatch.setattr("services.runtime.pool._KERNEL_LAYERS", ("seccomp", "no_such_layer"))
    pool = WorkerPool(require_kernel_layers=True)
    with pytest.raises(ServiceError, match="this machine lacks no_such_layer") as caught:
        await pool.start()
    assert caught.value.reason == Reason.CONFIG_INVALID
    assert caught.value.metadata["key"] == "runtime.require_kernel_layers"


async def test_a_zygote_that_cannot_start_is_an_error():
    """The reason is ours, and nothing is left running."""
    pool = WorkerPool(zygote="tests.no_such_module")
    with pytest.raises(ServiceError, match="zygote of script workers did not start"):
        await pool.start()
    await pool.close()


async def test_workers_end_when_their_host_goes():
    """Closing the host's sockets is enough: zygote and idle worker end by themselves."""
    pool = WorkerPool()
    await pool.start()
    spare = await pool._spare
    spare._writer.transport.abort()
    end = await spare.wait()
    assert end.status == 1
    pool._closed = True  # so that it does not start another one
    pool._zygote._lose()
    assert await asyncio.to_thread(pool._zygote.process.wait, 10) == 0
    await pool.close()


async def test_a_worker_that_cannot_be_made_is_an_error():
    """Neither a worker that ends too early nor a refused fork leaves a caller waiting."""
    async with WorkerPool(zygote="tests.unit.runtime.failing_zygote") as pool:
        for _ in range(3):
            with pytest.raises(ServiceError, match="No worker could be started") as caught:
                await pool.acquire(DEFAULT)
            assert caught.value.reason == Reason.RUN_WORKER_LOST


async def test_a_stopped_pool_gives_no_worker():
    """After close there is an error instead of another zygote."""
    pool = WorkerPool()
    await pool.start()
    await pool.close()
    with pytest.raises(ServiceError, match="The runtime is stopping"):
        await pool.acquire(WorkerLimits(cpu_seconds=3))
    assert not pool._zygote.workers


async def test_a_zygote_that_cannot_be_replaced_is_tried_again(pool, monkeypatch):
    """The loss is logged; the next run tries once more and says what is wrong."""
    monkeypatch.setattr(pool, "_module", "tests.no_such_module")
    await (await pool._spare).close()
    os.kill(pool.zygote_pid, signal.SIGKILL)
    await pool._watch
    with pytest.raises(ServiceError, match="did not start"):
        await pool.acquire(WorkerLimits(cpu_seconds=3))
    monkeypatch.undo()
    assert (await run(pool, "return 1", cpu_s=3)).value == 1


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
async def test_closing_while_starting_leaves_nothing(turns):
    """A pool that is closed at any moment of its start leaves no process and no descriptor."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    pool = WorkerPool()
    task = asyncio.create_task(pool.start())
    for _ in range(turns):
        await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await pool.close()
    # The child watcher of asyncio may hold a descriptor until its next turn.
    await asyncio.sleep(0)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


async def test_workers_of_tools_do_not_hide_that_their_zygote_died():
    """A worker that waits for its order holds its own socket alone; the host sees the death."""
    async with WorkerPool(zygote=TOOL_ZYGOTE) as pool, pool.worker(DEFAULT) as worker:
        links = [str(each.readlink()) for each in Path(f"/proc/{worker.pid}/fd").iterdir()]
        assert len([link for link in links if link.startswith("socket:")]) == 1
        zygote = pool._zygote
        os.kill(pool.zygote_pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            await zygote.lost.wait()
        assert worker.alive
