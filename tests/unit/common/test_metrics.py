"""Metrics: usual names, bounded labels, one text of several processes."""

import sys
import time
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.common.access import METHODS
from services.common.context import CallContext
from services.common.door import Arrival, End
from services.common.errors import Reason, ServiceError
from services.common.limits import LABEL_VALUES_MAX, TENANTS_COUNTED_MAX, TENANTS_TOLD_MAX
from services.common.metrics import Counter, Metrics, joined, of_member
from services.common.telemetry import Counts, HookCount
from services.common.tenant_counts import OTHER, TenantCounts

SEARCH = METHODS["/llmspell.v1.VectorService/Search"]
WATCH = METHODS["/llmspell.v1.StateService/WatchState"]


def ended(metrics, counts, method=SEARCH, *, tenant="acme", error=None, seconds=0.004, **more):
    """A call comes and ends."""
    counts.begin(method.path if method else "")
    context = CallContext(tenant=tenant, principal="k", permissions=()) if tenant else None
    path = method.path if method else "/nothing/Known"
    metrics(Arrival(path, method, (), "r", context=context), End(error, seconds, **more))


@pytest.fixture
def world():
    """Metrics of a process called vector."""
    counts = Counts()
    return SimpleNamespace(counts=counts, metrics=Metrics("vector", counts))


async def read(metrics):
    """Every sample by its name and labels."""
    return parsed(await metrics.tell())


def parsed(text):
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples, name, **labels):
    wanted = set(labels.items())
    return sum(
        number for (each, told), number in samples.items() if each == name and wanted <= told
    )


async def test_calls_are_counted_under_the_usual_names(world):
    """Started, handled by code, and how long, by type, service and method."""
    for _ in range(3):
        ended(world.metrics, world.counts)
    gone = ServiceError(Reason.COLLECTION_NOT_FOUND, "x")
    ended(world.metrics, world.counts, error=gone, seconds=0.3)
    ended(world.metrics, world.counts, WATCH, is_cancelled=True)
    world.counts.begin(SEARCH.path)  # one is still in flight
    samples = await read(world.metrics)
    labels = {
        "grpc_type": "unary",
        "grpc_service": "llmspell.v1.VectorService",
        "grpc_method": "Search",
        "process": "vector",
    }
    assert value(samples, "grpc_server_started_total", **labels) == 5
    assert value(samples, "grpc_server_handled_total", **labels, grpc_code="OK") == 3
    assert value(samples, "grpc_server_handled_total", **labels, grpc_code="NOT_FOUND") == 1
    bucket = "grpc_server_handling_seconds_bucket"
    assert value(samples, bucket, **labels, le="0.005") == 3
    assert value(samples, bucket, **labels, le="+Inf") == 4
    assert value(samples, "grpc_server_handling_seconds_sum", **labels) == pytest.approx(0.312)
    assert value(samples, "grpc_server_handled_total", grpc_type="server_stream") == 1
    assert value(samples, "llmspell_errors_total", reason="COLLECTION_NOT_FOUND") == 1


async def test_strangers_make_no_series(world):
    """A method that is not offered has no series of its own; only its refusal is counted."""
    for _ in range(100):
        refused = ServiceError(Reason.NOT_IMPLEMENTED, "x")
        ended(world.metrics, world.counts, None, tenant="", error=refused)
    samples = await read(world.metrics)
    assert value(samples, "grpc_server_started_total") == 0
    assert value(samples, "llmspell_errors_total", reason="NOT_IMPLEMENTED") == 100
    assert "Known" not in await world.metrics.tell()


async def test_tenants_have_their_own_counts(world):
    """Calls, refusals and seconds; what a tenant did wrong itself is no refusal."""
    quota = ServiceError(Reason.OVERLOADED, "x")
    wrong = ServiceError(Reason.FIELD_INVALID, "x")
    for error in (None, quota, wrong):
        ended(world.metrics, world.counts, error=error)
    ended(world.metrics, world.counts, tenant="globex")
    samples = await read(world.metrics)
    assert value(samples, "llmspell_tenant_calls_total", tenant="acme") == 3
    assert value(samples, "llmspell_tenant_refusals_total", tenant="acme") == 1
    assert value(samples, "llmspell_tenant_calls_total", tenant="globex") == 1
    assert value(samples, "llmspell_tenant_refusals_total", tenant="globex") == 0


async def test_ten_thousand_tenants_take_little_room(world):
    """The text and the memory stay bounded, and no call is lost from the sum."""
    for number in range(10_000):
        ended(world.metrics, world.counts, tenant=f"t{number}")
    samples = await read(world.metrics)
    series = [told for (name, told) in samples if name == "llmspell_tenant_calls_total"]
    assert len(series) == TENANTS_TOLD_MAX + 1
    assert value(samples, "llmspell_tenant_calls_total") == 10_000
    assert len(world.metrics.tenants._waiting) <= TENANTS_COUNTED_MAX
    assert sys.getsizeof(world.metrics.tenants._waiting) < 100_000


def test_a_busy_tenant_gets_a_place_from_an_idle_one(monkeypatch):
    """After a period those with most calls are told by name, and counts only rise."""
    now = [0.0]
    monkeypatch.setattr("services.common.tenant_counts.monotonic", lambda: now[0])
    counts = TenantCounts(told_max=2)
    for tenant in ("idle", "busy"):
        counts.count(tenant, 0.1, refused=False)
    for _ in range(10):
        counts.count("busy", 0.1, refused=False)
        counts.count("new", 0.1, refused=False)
    before = counts.told()[OTHER].calls
    now[0] += 61
    counts.count("new", 0.1, refused=False)
    assert set(counts.told()) == {"busy", "new", OTHER}
    assert counts.told()[OTHER].calls == before + 1
    counts.count("new", 0.1, refused=True)
    assert (counts.told()["new"].calls, counts.told()["new"].refusals) == (1, 1)
    assert counts.told()["busy"].calls == 11


def test_labels_that_callers_choose_are_bounded():
    """Beyond so many values the rest is one; a long one is cut."""
    counter = Counter(("model",))
    for number in range(1000):
        counter.add(f"model-{number}" + "x" * 1000)
    told = counter.read()
    assert len(told) == LABEL_VALUES_MAX + 1
    assert told[(OTHER,)] == 1000 - LABEL_VALUES_MAX
    assert max(len(label) for (label,) in told) == 100


async def test_a_label_cannot_forge_a_series(world):
    """Quotation marks, line ends and braces within a value stay within it."""
    counter = world.metrics.counter("llmspell_odd_total", "Odd.", "model")
    odd = 'a",process="state"} 7\nllmspell_forged_total 1\n'
    counter.add(odd)
    samples = await read(world.metrics)
    assert value(samples, "llmspell_odd_total", model=odd, process="vector") == 1
    assert not value(samples, "llmspell_forged_total")
    assert value(parsed(of_member(await world.metrics.tell(), "ab")), "llmspell_odd_total") == 1


async def test_one_measure_that_fails_costs_itself(world, caplog):
    """All others are told; the log has why."""
    world.metrics.gauge("llmspell_broken", "Broken.", lambda: 1 / 0)
    world.metrics.gauge("llmspell_whole", "Whole.", lambda: 3)
    samples = await read(world.metrics)
    assert value(samples, "llmspell_whole") == 3
    assert not value(samples, "llmspell_broken")
    assert caplog.records[0].metric == "llmspell_broken"


async def test_hooks_and_counts_are_told(world):
    """What the process counts anyway."""
    world.counts.internal_errors = 2
    world.counts.hooks.append(HookCount("caching", calls=5, opened=1, open_now=lambda: 3))
    samples = await read(world.metrics)
    assert value(samples, "llmspell_internal_errors_total") == 2
    assert value(samples, "llmspell_hook_calls_total", hook="caching") == 5
    assert value(samples, "llmspell_hook_breakers_open", hook="caching") == 3


async def test_texts_of_several_processes_are_one(world):
    """Each metric is told of once, all its series stand together, and none is lost."""
    other = Metrics("state", Counts())
    ended(world.metrics, world.counts)
    texts = [await world.metrics.tell(), await other.tell()]
    both = joined(texts)
    assert parsed(both) == parsed(texts[0]) | parsed(texts[1])
    helps = [line for line in both.splitlines() if line.startswith("# HELP")]
    assert len(helps) == len(set(helps))
    names = [line.split("{")[0] for line in both.splitlines() if not line.startswith("#")]
    blocks = [name for before, name in zip([None, *names], names, strict=False) if name != before]
    assert len(blocks) == len(set(blocks))


async def test_several_of_a_kind_are_told_apart(world):
    """Two vector processes have two series of everything."""
    ended(world.metrics, world.counts)
    text = await world.metrics.tell()
    both = parsed(joined([of_member(text, "aa"), of_member(text, "bb")]))
    assert len(both) == 2 * len(parsed(text))
    assert value(both, "grpc_server_started_total", instance="bb", process="vector") == 1


def test_counting_a_call_costs_little(world):
    """Well under 2 % of a search, which takes a millisecond: both together below 20 µs."""
    best = 1.0
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(1000):
            ended(world.metrics, world.counts)
        best = min(best, (time.perf_counter() - begin) / 1000)
    assert best < 20e-6
