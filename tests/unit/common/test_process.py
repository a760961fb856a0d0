"""ProcessService: what a process says of itself and of those behind it."""

import os

import grpc
import pytest
from llmspell.v1 import process_pb2, process_pb2_grpc

from services.common.clock import FakeClock, SystemClock
from services.common.context import Seal, set_context
from services.common.door import Door, SealedContext
from services.common.process import RELEASE, ProcessServicer
from services.common.relay import Upstream
from services.common.telemetry import Counts
from services.common.vitals import Vitals
from tests.servers import EVERYTHING, SEAL

REQUEST = process_pb2.GetProcessStatusRequest()


async def status(servicer):
    set_context(EVERYTHING)
    return list((await servicer.GetProcessStatus(REQUEST, None)).processes)


async def test_a_process_tells_of_itself():
    """Name, release, process id, memory, start and counts."""
    clock = FakeClock()
    counts = Counts(calls=5, internal_errors=2)
    (own,) = await status(ProcessServicer(Vitals("state", counts), clock, jail="Held."))
    assert own.jail == "Held."
    assert (own.name, own.version, own.pid) == ("state", RELEASE, os.getpid())
    assert own.status == process_pb2.SERVING_STATUS_SERVING
    assert own.start_time.ToNanoseconds() == clock.now_ns()
    assert (own.call_count, own.internal_error_count) == (5, 2)
    assert own.resident_bytes > 1_000_000
    counts.damages.note("artifact ab", "Bytes are damaged.")
    (own,) = await status(ProcessServicer(Vitals("state", counts), clock))
    (damage,) = own.damages
    assert (own.damage_count, damage.name, damage.why) == (1, "artifact ab", "Bytes are damaged.")


@pytest.fixture
async def peer(tmp_path):
    """A process behind, with a real door; gives a way to reach it."""
    counts = Counts()
    server = grpc.aio.server(interceptors=(Door(SealedContext(SEAL), counts, calls_at_once=5),))
    servicer = ProcessServicer(Vitals("vector", counts), SystemClock())
    process_pb2_grpc.add_ProcessServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{tmp_path}/vector")
    await server.start()
    upstreams = []

    def reach(name, address):
        upstreams.append(Upstream(name, address))
        return upstreams[-1]

    yield reach, f"unix:{tmp_path}/vector"
    for upstream in upstreams:
        await upstream.close()
    await server.stop(0)


async def test_peers_are_asked_and_come_after(peer, tmp_path):
    """The process asked comes first; one that is away is UNREACHABLE and keeps its place."""
    reach, address = peer
    peers = [reach("runtime", f"unix:{tmp_path}/nobody"), reach("vector", address)]
    answers = await status(
        ProcessServicer(Vitals("gateway"), FakeClock(), lambda: peers, seal=SEAL)
    )
    assert [answer.name for answer in answers] == ["gateway", "runtime", "vector"]
    assert [process_pb2.ServingStatus.Name(answer.status) for answer in answers] == [
        "SERVING_STATUS_SERVING",
        "SERVING_STATUS_UNREACHABLE",
        "SERVING_STATUS_SERVING",
    ]
    assert answers[2].call_count == 1


async def test_a_peer_that_does_not_know_us_is_not_serving_us(peer):
    """With another key nothing is told; the answer still names all."""
    reach, address = peer
    peers, stranger = [reach("vector", address)], Seal(bytes(32), SystemClock())
    answers = await status(
        ProcessServicer(Vitals("gateway"), FakeClock(), lambda: peers, seal=stranger)
    )
    assert answers[1].status == process_pb2.SERVING_STATUS_UNREACHABLE
    assert not answers[1].pid
