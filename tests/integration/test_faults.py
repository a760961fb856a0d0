"""What callers see when the ways between processes fail, and when processes hang, die or rave.

Four processes with mutual TLS, a proxy between any two. Each fault has a minimum of traffic before
it; the seed of every random choice is printed.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import contextmanager

import grpc
import pytest
from llmspell import DeadlineExceeded, LLMSpellError, Unavailable
from llmspell.errors import from_rpc
from llmspell.v1 import script_pb2, script_pb2_grpc, vector_pb2, vector_pb2_grpc

from tests.certificates import days_ago
from tests.integration.apart import EDGES, apart

SCALE = int(os.environ.get("LLMSPELL_FAULT_SCALE", "1"))
LATE_S = 0.2
"""After its deadline, at most, a caller has its answer."""
RECOVERED_S = 5.0
"""After a fault has ended, at most, calls succeed again."""
TENANTS = ("acme", "globex")


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """One deployment for all faults; each test heals what it broke."""
    with apart(tmp_path_factory.mktemp("apart") / "up") as made:
        yield made


@pytest.fixture(autouse=True)
def _whole(up):
    """Before each test everything answers, and afterwards again, within the time allowed."""
    answers(up)
    yield
    up.heal()
    started = time.monotonic()
    answers(up)
    assert time.monotonic() - started < RECOVERED_S


def state(up, tenant, timeout_s):
    """A call that needs gateway and state."""
    with up.client(tenant, timeout_s=timeout_s) as client:
        client.set_state("probe", 1)


def vectors(up, tenant, timeout_s):
    """A call that needs gateway and vector."""
    with up.client(tenant, timeout_s=timeout_s) as client:
        list(client.list_collections())


def tools(up, tenant, timeout_s):
    """A call that needs gateway and runtime."""
    with up.client(tenant, timeout_s=timeout_s) as client:
        list(client.list_tools())


def script(source):
    """A call that needs gateway, runtime, and what the script calls."""

    def run(up, tenant, timeout_s):
        trust = grpc.ssl_channel_credentials(up.ca_file.read_bytes())
        metadata = (("authorization", f"Bearer {up.keys[tenant]}"),)
        request = script_pb2.RunScriptRequest(source=source)
        with grpc.secure_channel(up.address, trust) as channel:
            stub = script_pb2_grpc.ScriptServiceStub(channel)
            try:
                list(stub.RunScript(request, timeout=timeout_s, metadata=metadata))
            except grpc.RpcError as error:
                raise from_rpc(error, up.address) from None

    return run


NEEDS = {
    ("gateway", "runtime"): tools,
    ("gateway", "vector"): vectors,
    ("gateway", "state"): state,
    ("runtime", "vector"): script("RAG.search('x')"),
    ("runtime", "state"): script("State.set('probe', 1)"),
}
BESIDE = {
    ("gateway", "runtime"): (vectors, state),
    ("gateway", "vector"): (tools, state),
    ("gateway", "state"): (),  # keys are looked up there, so everything stops after a second
    ("runtime", "vector"): (vectors, state, tools),
    ("runtime", "state"): (vectors, state),  # the runtime asks state for each tenant's record
    ("vector", "state"): (vectors, state, tools),
}


def answers(up):
    """Wait until every kind of call is answered, for both tenants."""
    end = time.monotonic() + 4 * RECOVERED_S
    for call in (tools, vectors, state):
        for tenant in TENANTS:
            while True:
                try:
                    call(up, tenant, 2.0)
                    break
                except LLMSpellError:
                    assert time.monotonic() < end, call.__name__
                    time.sleep(0.05)


def failed(call, up, tenant, timeout_s):
    """How a call has failed, and how long after its deadline; it must have."""
    started = time.monotonic()
    with pytest.raises((DeadlineExceeded, Unavailable)) as caught:
        call(up, tenant, timeout_s)
    return caught.value, time.monotonic() - started - timeout_s


@pytest.mark.parametrize("edge", EDGES, ids="-".join)
def test_a_partition_is_bounded_and_nobody_else_notices(up, edge):
    """Bytes are held between two processes: callers fail by their deadline, others are served."""
    up.ways[edge].hold()
    if edge in NEEDS:
        asked = [*TENANTS] * 2 * SCALE
        late = [failed(NEEDS[edge], up, tenant, 0.4)[1] for tenant in asked]
        assert max(late) < 5 * LATE_S, late  # a shared machine may pause once
        assert sorted(late)[len(late) // 2] < LATE_S, late
    for call in BESIDE[edge]:
        for tenant in TENANTS:
            call(up, tenant, 4.0)


def once(up, tenant, timeout_s):
    """One call that needs vector, by a client that repeats nothing: its code, and the seconds."""
    trust = grpc.ssl_channel_credentials(up.ca_file.read_bytes())
    metadata = (("authorization", f"Bearer {up.keys[tenant]}"),)
    with grpc.secure_channel(up.address, trust, [("grpc.enable_retries", 0)]) as channel:
        grpc.channel_ready_future(channel).result(5)
        stub = vector_pb2_grpc.VectorServiceStub(channel)
        started = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListCollections(
                vector_pb2.ListCollectionsRequest(), timeout=timeout_s, metadata=metadata
            )
        return caught.value.code().name, time.monotonic() - started


@pytest.mark.parametrize("kind", ["hangs", "forth is lost", "back is lost"])
def test_the_breaker_opens_and_closes_again(up, kind):
    """A process that lets calls wait is refused at once after some; the others serve on."""
    way = up.ways["gateway", "vector"]
    {
        "hangs": lambda: os.kill(up.pid("vector"), signal.SIGSTOP),
        "forth is lost": lambda: way.drop("forth"),
        "back is lost": lambda: way.drop("back"),
    }[kind]()
    started = time.monotonic()
    quick = 0
    seen = []
    while quick < 4:
        assert time.monotonic() - started < 10.0, seen
        code, took = once(up, TENANTS[quick % 2], 0.4)
        seen.append((code, round(took, 2)))
        quick = quick + 1 if code == "UNAVAILABLE" and took < 0.2 else 0
    for tenant in TENANTS:
        state(up, tenant, 2.0)
        tools(up, tenant, 2.0)


def test_a_process_that_raves_is_bounded(up):
    """Random bytes in place of answers: callers fail by their deadline, the others serve on."""
    way = up.ways["gateway", "vector"]
    way.garbage = True
    way.reset()
    late = [failed(vectors, up, tenant, 0.4)[1] for tenant in TENANTS for _ in range(2 * SCALE)]
    assert sorted(late)[len(late) // 2] < LATE_S, late
    for tenant in TENANTS:
        state(up, tenant, 2.0)
        tools(up, tenant, 2.0)


@pytest.mark.parametrize("name", ["vector", "runtime"])
def test_a_process_that_dies_is_waited_for(up, name):
    """Kill -9 and a new start: calls of both tenants that need it are answered soon after."""
    up.processes[name].kill()
    up.processes[name].wait()
    call = vectors if name == "vector" else tools
    assert isinstance(failed(call, up, "acme", 0.3)[0], Unavailable | DeadlineExceeded)
    for tenant in TENANTS:
        state(up, tenant, 2.0)
    up.start(name)
    answers(up)


def test_repeated_writes_count_once_through_broken_connections(up):
    """Connections are cut at random while both tenants count: what was answered counted once.

    Who has no answer repeats by itself under the same request id; the sum says whether twice.
    """
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    way = up.ways["gateway", "state"]
    done = dict.fromkeys(TENANTS, 0)
    unknown = dict.fromkeys(TENANTS, 0)
    with broken(way, chance):
        for _ in range(40 * SCALE):
            for tenant in TENANTS:
                with up.client(tenant, timeout_s=5.0) as client:
                    try:
                        client.increment_state("count", scope=f"custom:faults-{seed}")
                        done[tenant] += 1
                    except (Unavailable, DeadlineExceeded):
                        unknown[tenant] += 1
    answers(up)
    for tenant in TENANTS:
        with up.client(tenant) as client:
            total = client.get_state("count", scope=f"custom:faults-{seed}").value
        assert done[tenant] >= 20 * SCALE, (done, unknown, seed)
        assert done[tenant] <= total <= done[tenant] + unknown[tenant], (done, unknown, seed)


@contextmanager
def broken(way, chance):
    """A way whose connections are cut every so often."""
    stop = threading.Event()
    cuts = [way.reset, way.half_close]

    def cut():
        while not stop.wait(chance.uniform(0.05, 0.3)):
            chance.choice(cuts)()

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        yield
    finally:
        stop.set()
        cutting.join()


def test_a_slow_way_slows_only_what_takes_it(up):
    """40 ms each way to vector: its callers wait that long, callers of state do not."""
    up.ways["gateway", "vector"].latency_s = 0.04

    def took(call):
        started = time.monotonic()
        call(up, "acme", 5.0)
        return time.monotonic() - started

    assert min(took(vectors) for _ in range(3)) > 0.08
    assert min(took(state) for _ in range(5)) < 0.08


def test_certificates_are_renewed_under_load(up):
    """Every process gets a new certificate while both tenants call: none of the calls fails."""
    counts = dict.fromkeys(TENANTS, 0)
    stop = threading.Event()
    failures = []

    def call(tenant):
        while not stop.is_set():
            try:
                vectors(up, tenant, 10.0)
                state(up, tenant, 10.0)
                counts[tenant] += 1
            except LLMSpellError as error:
                failures.append(error)

    threads = [threading.Thread(target=call, args=(tenant,)) for tenant in TENANTS]
    for thread in threads:
        thread.start()
    for name in ("state", "vector", "runtime", "gateway"):
        up.renew(name)
        time.sleep(0.3)
    end = time.monotonic() + 20
    while not all(_renewed(up, name) for name in up.processes):
        assert time.monotonic() < end
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(counts.values()) > 5


def _renewed(up, name):
    return any(line["event"] == "certificate replaced" for line in up.log(name))


def test_an_expired_certificate_is_named_everywhere(up):
    """The gateway's public one ends while it runs: log, health and a new caller say so."""
    with up.client() as before:
        before.processes()
        up.renew("gateway", days=1, now=days_ago(2))
        end = time.monotonic() + 20
        while not any("expired" in line.get("why", "") for line in up.log("gateway")):
            assert time.monotonic() < end
            time.sleep(0.1)
        (gateway,) = [each for each in before.processes() if each.name == "gateway"]
        assert {each.problem.split()[0] for each in gateway.certificates} == {"expired"}
        trust = grpc.ssl_channel_credentials(up.ca_file.read_bytes())
        # Channels of one process share connections, and those that are open go on.
        alone = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with (
            grpc.secure_channel(up.address, trust, alone) as late,
            pytest.raises(grpc.RpcError) as e,
        ):
            late.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5.0)
        assert "certificate has expired" in str(from_rpc(e.value, up.address))
    up.renew("gateway")
