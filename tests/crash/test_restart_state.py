"""The state process over a gigabyte, killed under load, starts again within a second."""

import asyncio
import os
import random
import shutil
import statistics
import time
from pathlib import Path

import grpc
import pytest
from llmspell.v1 import state_pb2, state_pb2_grpc

from services.common.clock import SystemClock
from services.common.relay import CHANNEL_OPTIONS
from services.state.artifact_model import Draft
from services.state.artifacts import Artifacts
from services.state.blobs import open_blobs
from services.state.item_step import ItemStep
from services.state.model import Encoding, Value, Write
from tests.crash import scale
from tests.crash.alone import alone
from tests.crash.state_clients import TENANTS, caller
from tests.state_engines import embedded_keeper

pytestmark = [pytest.mark.crash, pytest.mark.timeout(400)]

LIVE_BYTES = scale.count(20_000_000, 1_000_000_000)
ITEM_BYTES, ARTIFACT_BYTES = 1000, 1_000_000
ROUNDS, CLIENTS, RESTART_S_MAX = scale.count(2, 5), 8, 1.0
AT_ONCE = 5000
_TICKS = os.sysconf("SC_CLK_TCK")


async def fill(folder, live_bytes):
    """Items of a kilobyte, nine tenths of it all, and artifacts of a megabyte."""
    pool = random.Random(1).randbytes(1 << 20)
    keeper = embedded_keeper(folder, SystemClock(), sync=False)

    def item(number):
        at = number * 977 % (len(pool) - ITEM_BYTES)
        value = Value(Encoding.RAW, pool[at : at + ITEM_BYTES])
        return Write("session:big", f"k{number:07d}", value)

    count = int(0.9 * live_bytes) // ITEM_BYTES
    for place, tenant in enumerate(TENANTS):
        for first in range(place, count, 2 * AT_ONCE):
            writes = [item(n) for n in range(first, min(first + 2 * AT_ONCE, count), 2)]
            await keeper.step(
                lambda step, tenant=tenant, writes=writes: ItemStep(step).run(tenant, [], writes)
            )
    artifacts = Artifacts(keeper, open_blobs("embedded", folder))
    for number in range(int(0.1 * live_bytes) // ARTIFACT_BYTES):
        draft = Draft(scope="global", name=f"a{number}")
        await artifacts.store(TENANTS[number % 2], draft, [b"%d" % number, pool[:ARTIFACT_BYTES]])
    await artifacts.close()
    keeper.engine.close()


def cpu_s(pid):
    """Seconds of a processor that a process and what it waited for have taken."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    return sum(map(int, ticks)) / _TICKS


class Start:
    """One start: until it serves, until the first read is answered, and what it took."""

    def __init__(self, up):
        self.serving_s, self.cpu_s = up.start_s, cpu_s(up.process.pid)
        with grpc.insecure_channel(up.address) as channel:
            stub = state_pb2_grpc.StateServiceStub(channel)
            request = state_pb2.GetStateRequest(scope="session:big", key="k0000007")
            answer = stub.GetState(request, metadata=caller(TENANTS[1]), timeout=20)
            self.read_s = time.monotonic() - up.began
        assert len(answer.item.value.raw) == ITEM_BYTES


async def killed_under_load(up):
    """Eight clients write and read until it is killed; how many calls were answered."""
    answered = 0

    async def call(stub, rng, metadata):
        nonlocal answered
        while True:
            key = f"k{rng.randrange(10_000):07d}"
            value = state_pb2.Payload(raw=rng.randbytes(ITEM_BYTES))
            write = state_pb2.SetStateRequest(scope="session:big", key=key, value=value)
            read = state_pb2.GetStateRequest(scope="session:big", key=key)
            await stub.SetState(write, metadata=metadata, timeout=20)
            await stub.GetState(read, metadata=metadata, timeout=20)
            answered += 2

    async with grpc.aio.insecure_channel(up.address, options=CHANNEL_OPTIONS) as channel:
        stub = state_pb2_grpc.StateServiceStub(channel)
        calls = [
            call(stub, random.Random(number), caller(TENANTS[number % 2]))
            for number in range(CLIENTS)
        ]
        tasks = [asyncio.ensure_future(each) for each in calls]
        await asyncio.sleep(0.5)
        up.kill()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert {each.code() for each in ends} == {grpc.StatusCode.UNAVAILABLE}
    return answered


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder with that much."""
    folder = tmp_path_factory.mktemp("big") / "data"
    asyncio.run(fill(folder, LIVE_BYTES))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # whoever read it may be just about to end


def test_a_restart_after_a_kill_takes_no_longer_for_a_gigabyte(filled, reached):
    """SERVING and the first read within a second, whatever is there; what it reads it reads beside.

    How long it takes beside other work says how much other work there is; so what is asserted of
    every start is what it takes of a processor, and of the quickest the second.
    """
    starts, answered = [], 0
    for _ in range(ROUNDS + 1):
        with alone("state", filled) as up:
            starts.append(Start(up))
            answered += asyncio.run(killed_under_load(up))
    after = starts[1:]
    reads = [each.read_s for each in after]
    reached(
        "T1",
        f"state: {ROUNDS} restarts over {LIVE_BYTES / 1e9:g} GB, killed under {CLIENTS} clients",
        f"first read < {RESTART_S_MAX:g} s",
        f"median {statistics.median(reads):.2f} s, worst {max(reads):.2f} s; "
        f"{max(each.cpu_s for each in after):.2f} s of a processor",
        "all is read before",
    )
    assert answered > 50 * len(starts), "too few calls for a verdict"
    assert max(each.cpu_s for each in after) < RESTART_S_MAX
    assert min(reads) < (RESTART_S_MAX if scale.SCALE else 10 * RESTART_S_MAX)


def test_a_start_that_reads_all_before_is_seen(filled):
    """Teeth: it takes a processor for longer than the second where there is a gigabyte."""
    with alone("state", filled, flaw="reads_all") as up:
        with_all = Start(up).cpu_s
    with alone("state", filled) as up:
        without = Start(up).cpu_s
    assert with_all > (RESTART_S_MAX if scale.SCALE else without), (with_all, without)
