"""Hooks of the host: their guards and breakers, what is kept for whom, what they make of a call."""

import asyncio
import os
import time
from dataclasses import replace

import pytest

from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.common.settings import EventsSettings, HooksSettings
from services.common.telemetry import Counts, HookCount
from services.runtime.hooks.announcing import Announcer
from services.runtime.hooks.at_points import AtPoints
from services.runtime.hooks.breaker import Breaker, State, Thresholds
from services.runtime.hooks.built_in import build_hooks
from services.runtime.hooks.guard import Guarded
from services.runtime.hooks.hosting import Hosting
from services.runtime.hooks.kept import KeptAnswers
from services.runtime.hooks.limiting import CachingHook, RateLimitHook, RetryHook
from services.runtime.hooks.model import HostCall, RunInfo, refused
from services.runtime.hooks.results import Continue
from services.runtime.hooks.watch import Watch
from services.runtime.hooks.watching import CostHook, MetricsHook, shown
from services.runtime.runs import Call, Reply, RunLimits

DONE = Reply(ok=True, tree={"revision": 1})
AWAY = refused(ServiceError(Reason.SERVICE_UNAVAILABLE, "Away."))


def call_of(tenant="acme", method="StateService/GetState", args=None, **context):
    """A call of a run of a tenant."""
    caller = {"principal": "k", "permissions": ("state.read",), "request_id": "r"} | context
    info = RunInfo(CallContext(tenant=tenant, **caller))
    return HostCall(Call(f"llmspell.v1.{method}", None, args or {"key": "k"}), info)


class Behind:
    """What lies behind a hook: counts, and gives what it is told to."""

    def __init__(self, *replies):
        self.replies = list(replies) or [DONE]
        self.count = 0

    async def __call__(self, call):
        self.count += 1
        reply = self.replies[min(self.count, len(self.replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        return reply


class Time:
    """Seconds that move when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def guard(hook, *, time=None, told=None, timeout_s=5.0):
    """A hook with its guard."""
    heard = [] if told is None else told
    return Guarded(
        "h", hook, HookCount("h"), tell=lambda *a: heard.append(a[1]), timeout_s=timeout_s,
        now=time or Time(),
    )  # fmt: skip


async def fails_before(call, proceed):
    """Fails before it has asked."""
    raise ValueError


async def fails_after(call, proceed):
    """Fails when it has asked."""
    await proceed(call)
    raise ValueError


async def too_slow(call, proceed):
    """Never comes to its end."""
    await asyncio.sleep(60)


@pytest.mark.parametrize("hook", [fails_before, fails_after, too_slow])
async def test_a_hook_that_fails_breaks_no_call(hook):
    """The call is made exactly once and answered; the failure is counted and told."""
    behind, told = Behind(), []
    guarded = guard(hook, told=told, timeout_s=0.02)
    assert await guarded(call_of(), behind) == DONE
    assert (behind.count, guarded.count.failures, told) == (1, 1, ["hook.failed"])


@pytest.mark.parametrize("hook", [fails_before, fails_after])
async def test_what_fails_behind_a_hook_is_not_its_fault(hook):
    """An error of what lies behind passes, is no failure of the hook's, and is not tried again."""
    behind = Behind(ZeroDivisionError())
    guarded = guard(hook)
    with pytest.raises(ZeroDivisionError):
        await guarded(call_of(), behind)
    assert behind.count == 1
    assert guarded.count.failures == (hook is fails_before)


async def test_time_behind_a_hook_is_not_its_own():
    """A call that takes long makes the hook around it neither late nor slow."""

    async def passes(call, proceed):
        return await proceed(call)

    async def behind(call):
        await asyncio.sleep(0.5)
        return DONE

    guarded = guard(passes, timeout_s=0.02)
    assert await guarded(call_of(), behind) == DONE
    assert (guarded.count.failures, guarded.state("acme")) == (0, State.CLOSED)
    assert guarded.count.elapsed_s < 0.4


async def test_a_breaker_opens_for_one_tenant_and_closes_again():
    """Three failures leave the hook out for that tenant; after its time two good calls close it."""
    time, told, broken = Time(), [], [True]

    async def hook(call, proceed):
        if broken[0] and call.run.tenant == "acme":
            raise ValueError
        return await proceed(call)

    guarded, behind = guard(hook, time=time, told=told), Behind()
    for _ in range(5):
        assert await guarded(call_of("acme"), behind) == DONE
        assert await guarded(call_of("globex"), behind) == DONE
    count = guarded.count
    assert (count.failures, count.left_out, count.opened, count.open_now()) == (3, 2, 1, 1)
    assert told == ["hook.failed"] * 3 + ["hook.opened"]
    assert (guarded.state("acme"), guarded.state("globex")) == (State.OPEN, State.CLOSED)
    time.now += 15
    broken[0] = False
    await guarded(call_of("acme"), behind)
    assert guarded.state("acme") is State.HALF_OPEN
    await guarded(call_of("acme"), behind)
    assert (guarded.state("acme"), count.open_now()) == (State.CLOSED, 0)


def test_a_breaker_forgets_what_is_long_ago():
    """Failures further apart than the window do not open it; half open, one does."""
    time = Time()
    breaker = Breaker(Thresholds(), time)
    for _ in range(10):
        time.now += 15.1
        assert not breaker.failed()
    assert breaker.failed()
    assert not breaker.lets()
    time.now += 15
    assert breaker.lets()
    assert breaker.failed()
    assert breaker.state is State.OPEN


def test_two_slow_calls_open_a_breaker():
    """Slow is longer than 50 ms; what is as quick as that is not."""
    breaker = Breaker(Thresholds(), Time())
    assert not any(breaker.succeeded(0.05) for _ in range(9))
    assert not breaker.succeeded(0.051)
    assert breaker.succeeded(0.051)


ALIKE = [
    call_of(tenant="globex"),
    call_of(principal="other"),
    call_of(permissions=("state.read", "state.write")),
    call_of(row_filter=b"f"),
    call_of(args={"key": "other"}),
    call_of(method="StateService/ListState"),
]


@pytest.mark.parametrize("other", ALIKE, ids=range(len(ALIKE)))
async def test_an_answer_is_given_again_to_nobody_else(other):
    """Another tenant, key, permission, filter, argument or method has its own call made."""
    hook = CachingHook(
        KeptAnswers(), methods=["StateService/GetState", "StateService/ListState"], tools=(),
        ttl_s=9, slower_than_s=0,
    )  # fmt: skip
    behind = Behind(DONE, Reply(ok=True, tree={"revision": 2}))
    assert [await hook(call_of(), behind) for _ in range(3)] == [DONE] * 3
    assert behind.count == 1
    assert (await hook(other, behind)).tree == {"revision": 2}


async def test_what_was_quick_or_refused_is_not_kept():
    """Only an answer that took its time is worth keeping, and a refusal is none."""
    quick = CachingHook(
        KeptAnswers(), methods=["StateService/GetState"], tools=(), ttl_s=9, slower_than_s=9
    )
    refusing = CachingHook(
        KeptAnswers(), methods=["StateService/GetState"], tools=(), ttl_s=9, slower_than_s=0
    )
    for hook, reply in ((quick, DONE), (refusing, AWAY)):
        behind = Behind(reply)
        assert [await hook(call_of(), behind) for _ in range(2)] == [reply] * 2
        assert behind.count == 2


def test_answers_end_and_make_room_for_their_own_tenant_only():
    """The oldest of a tenant goes when it has too many; another tenant's stays; time ends all."""
    time = Time()
    kept = KeptAnswers(entries_max=2, now=time)
    kept.put("globex", "a", DONE, 10)
    for key in "abc":
        kept.put("acme", key, DONE, 10)
    assert [kept.get("acme", key) for key in "abc"] == [None, DONE, DONE]
    assert (kept.count("acme"), kept.count("globex")) == (2, 1)
    kept.put("acme", "large", Reply(ok=True, tree={"x": "y" * 300_000}), 10)
    assert kept.get("acme", "large") is None
    time.now += 10
    assert kept.get("globex", "a") is None


async def test_a_bucket_fills_again():
    """One call too many is refused, with how long to wait; after that it passes."""
    time = Time()
    hook = RateLimitHook(per_minute=60, burst=2, warn_share=0.5, now=time)
    replies = [await hook(call_of(), Behind()) for _ in range(3)]
    assert [reply.ok for reply in replies] == [True, True, False]
    assert replies[2].tree["reason"] == "RATE_LIMITED"
    assert replies[2].tree["metadata"]["retry_after_s"] == "1.000"
    assert (await hook(call_of("globex"), Behind())).ok
    time.now += 1
    assert (await hook(call_of(), Behind())).ok


@pytest.mark.parametrize(
    ("method", "reply", "count"),
    [
        ("StateService/GetState", AWAY, 3),
        ("StateService/SetState", AWAY, 3),
        ("ToolService/ExecuteTool", AWAY, 1),
        ("NoService/None", AWAY, 1),
        ("StateService/GetState", refused(ServiceError(Reason.SCOPE_INVALID, "No.")), 1),
        ("StateService/GetState", DONE, 1),
    ],
)
async def test_only_what_may_be_repeated_is_made_again(method, reply, count):
    """A process that is away is asked three times, where the contract allows it."""
    behind = Behind(reply)
    hook = RetryHook(attempts=3, delay_s=0.001, total_s=1)
    assert await hook(call_of(method=method), behind) == reply
    assert behind.count == count


async def test_a_retry_ends_with_the_first_good_answer():
    """And no longer than all its waits may take."""
    behind = Behind(AWAY, DONE)
    assert await RetryHook(attempts=9, delay_s=0.001, total_s=1)(call_of(), behind) == DONE
    assert behind.count == 2
    behind = Behind(AWAY)
    await RetryHook(attempts=9, delay_s=0.001, total_s=0.004)(call_of(), behind)
    assert behind.count == 3


async def test_cost_and_metrics_are_by_tenant():
    """Tokens times price, calls by method and failures by reason, each tenant's apart."""
    usage = {"model": "gpt-4", "input_tokens": 1000, "output_tokens": 500}
    cost, metrics = CostHook(), MetricsHook(interval_s=60)
    await cost(call_of(), Behind(Reply(ok=True, tree={"usage": usage})))
    assert cost.told("acme").dollars == pytest.approx(0.06)
    assert cost.told("globex").dollars == 0
    await metrics(call_of(), Behind(DONE))
    await metrics(call_of(), Behind(AWAY))
    count = metrics.told("acme")["StateService/GetState"]
    assert (count.calls, count.failures["SERVICE_UNAVAILABLE"]) == (2, 1)
    assert metrics.told("globex") == {}


class Published:
    """Stands where events are published."""

    def __init__(self):
        self.events = []
        self.error = None

    async def __call__(self, tenant, events):
        if self.error:
            raise self.error
        self.events += [(event.tenant, event.type, event.data) for event in events]


async def test_events_that_find_no_room_are_counted_and_told():
    """A tenant's flood takes its tenth of the room; another's events and the count arrive."""
    published, counts, time = Published(), Counts(), Time()
    announcer = Announcer(published, EventsSettings(buffer_size=30), counts, now=time)
    flood, other = call_of().run, call_of("globex").run
    for _ in range(10):
        announcer.run_started(flood)
    announcer.run_started(other)
    await announcer.flush()
    kinds = [(tenant, kind) for tenant, kind, _ in published.events]
    assert kinds == [("acme", "run.started")] * 3 + [
        ("acme", "events.dropped"), ("globex", "run.started"),
    ]  # fmt: skip
    assert published.events[3][2] == '{"count": 7}'
    assert counts.events_dropped == 7


async def test_events_are_limited_a_second_and_switched_off():
    """More than the rate is dropped until time has passed; without events nothing is told."""
    published, time = Published(), Time()
    settings = EventsSettings(max_events_per_second=2)
    announcer = Announcer(published, settings, Counts(), now=time)
    for _ in range(3):
        announcer.run_started(call_of().run)
    await announcer.flush()
    assert [kind for _, kind, _ in published.events] == ["run.started"] * 2 + ["events.dropped"]
    silent = Announcer(published, EventsSettings(enabled=False), Counts())
    silent.start()
    silent.answered(call_of(), AWAY, 0.1)
    silent.run_started(call_of().run)
    await silent.close()
    assert len(published.events) == 3


async def test_events_that_cannot_be_published_hold_up_nothing():
    """They are counted, and the next ones are tried."""
    published, counts = Published(), Counts()
    published.error = ServiceError(Reason.SERVICE_UNAVAILABLE, "Away.")
    announcer = Announcer(published, EventsSettings(), counts)
    announcer.run_started(call_of().run)
    await announcer.flush()
    published.error = None
    announcer.start()
    announcer.run_started(call_of().run)
    await announcer.close()
    assert counts.events_dropped == 1
    assert [kind for _, kind, _ in published.events] == ["run.started"]


@pytest.mark.parametrize("order", ["loging", "metrics, metrics", "cost, , what"])
def test_a_hook_that_there_is_not_is_refused(order):
    """At the start, with the names that there are."""
    announcer = Announcer(Published(), EventsSettings(), Counts())
    with pytest.raises(ServiceError) as caught:
        build_hooks(HooksSettings(order=order), Counts(), announcer)
    assert caught.value.reason == Reason.CONFIG_INVALID


@pytest.mark.parametrize(
    ("method", "args", "reason"),
    [
        ("Sleep", {"seconds": -1}, "FIELD_INVALID"),
        ("Sleep", {"seconds": "1"}, "FIELD_INVALID"),
        ("Sleep", {"seconds": 61}, "FIELD_INVALID"),
        ("Sleep", {"seconds": float("nan")}, "FIELD_INVALID"),
        ("Fork", {"operations": [{}]}, "FIELD_INVALID"),
        ("Fork", {"operations": [{"id": "a", "method": "llmspell.runtime.Hooks/Fork"}]},
         "FIELD_INVALID"),
        ("Fork", {"operations": [{"id": "a", "method": "m"}] * 33}, "LIMIT_EXCEEDED"),
        ("Nothing", {}, "NOT_IMPLEMENTED"),
    ],
)  # fmt: skip
async def test_what_a_hostile_worker_asks_of_its_host_is_checked(method, args, reason):
    """Whatever it says is refused by name or bounded."""
    async with Hosting.of_none().run(Behind(), call_of().run) as hooked:
        reply = await hooked(Call(f"llmspell.runtime.Hooks/{method}", None, args))
    assert (reply.ok, reply.tree["reason"]) == (False, reason)


async def test_forks_end_with_their_run():
    """What still goes on is cancelled; what has ended is given once."""
    ended = []

    async def inner(call):
        try:
            await asyncio.sleep(0 if call.method == "quick" else 60)
        except asyncio.CancelledError:
            ended.append(call.method)
            raise
        return DONE

    async with Hosting.of_none().run(inner, call_of().run) as hooked:
        operations = [{"id": name, "method": name} for name in ("quick", "slow")]
        await hooked(Call("llmspell.runtime.Hooks/Fork", None, {"operations": operations}))
        join = Call("llmspell.runtime.Hooks/Join", None, {"ids": ["quick"]})
        first, second = [await hooked(join) for _ in range(2)]
    assert [one["id"] for one in first.tree["results"]] == ["quick"]
    assert second.tree["results"] == []
    assert ended == ["slow"]


def test_what_is_shown_of_arguments_is_brief_and_clean():
    """Credentials and sensitive values are out, wherever they are; a large tree costs no time."""
    args = {
        "value": {"json": '"private"', "sensitive": True},
        "arguments": {"password": "hunter2", "deep": [{"api_key": "k-123"}], "data": b"\0" * 9},
    }
    text = shown(args, 1000)
    assert all(word not in text for word in ("private", "hunter2", "k-123"))
    assert "9 bytes" in text
    large = {"list": [{"text": "x" * 100_000}] * 1000}
    begin = time.perf_counter()
    assert len(shown(large, 100)) == 100
    assert time.perf_counter() - begin < 0.5
    nest = args
    for _ in range(64):
        nest = {"n": nest}
    assert "\\u2026" in shown(nest, 5000)


async def test_hooks_of_the_host_hear_of_slow_calls_and_of_runs_near_a_limit():
    """A call of a second, and memory and processor time from 80 % on: once, until it was below."""
    heard = []

    async def ask(context):
        heard.append((context.point, context.tenant, context.correlation_id, context.data))
        return Continue()

    points = ["PerformanceThresholdExceeded", "MemoryUsageHigh", "CpuUsageHigh"]
    hook = AtPoints(points, ask, kept=KeptAnswers())
    limits = RunLimits(memory_bytes=2 << 20, cpu_s=1e-9)
    run = replace(call_of().run, limits=limits)
    watch = Watch([guard(hook)], run)
    call = replace(call_of().call, worker_pid=os.getpid())
    await watch.after(call, 1.0)
    await watch.after(call, 0.1)
    assert [one[:3] for one in heard] == [(point, "acme", "r") for point in points]
    assert heard[0][3] == {
        "operation": call.method, "elapsed_ms": 1000.0, "threshold_ms": 1000.0,
    }  # fmt: skip
    assert heard[1][3]["used"] > heard[1][3]["limit"] == 2 << 20
    await watch.after(replace(call, worker_pid=2**30), 0.1)
    await watch.after(call, 0.1)
    assert len(heard) == 5, "what cannot be read is not high"
