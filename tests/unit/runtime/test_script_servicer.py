"""ScriptService: what it asks of a run, what it refuses, what it tells."""

import asyncio

import pytest
from google.protobuf.duration_pb2 import Duration
from llmspell.v1 import script_pb2

from services.common.clock import FakeClock
from services.common.context import CallContext, set_context
from services.common.errors import Reason, ServiceError
from services.common.limits import (
    SCRIPT_ARGUMENT_BYTES_MAX,
    SCRIPT_ARGUMENTS_MAX,
    SCRIPT_BYTES_MAX,
)
from services.runtime import run_desk
from services.runtime.handling import Handling
from services.runtime.hooks.hosting import Hosting
from services.runtime.run_desk import RunDesk
from services.runtime.runs import Call, Output, Result, RunLimits
from services.runtime.servicers import script as module
from services.runtime.servicers.script import ScriptServicer

CALLER = CallContext(tenant="acme", principal="k1", permissions=("script.run",), request_id="r1")
MOST = RunLimits(wall_s=60, cpu_s=10, memory_bytes=64 << 20, output_bytes=1 << 20, calls_max=9)


class Runs:
    """Stands where `runs` stands: keeps what was asked, gives what a test wants."""

    def __init__(self):
        self.asked = []
        self.checked = []
        self.events = [Result(json="null", elapsed_s=0.5, call_count=2, output_bytes=3)]
        self.closed = False
        self.waits = None
        self.began = asyncio.Event()

    async def run_script(self, pool, spec, bridge, readings=None):
        self.asked.append((pool, spec, bridge))
        self.began.set()
        try:
            for event in self.events:
                if isinstance(event, Exception):
                    raise event
                yield event
            if self.waits is not None:
                await self.waits.wait()
        finally:
            self.closed = True

    async def check_script(self, pool, source, name, *, tenant):
        self.checked.append((source, name))


@pytest.fixture
def runs(monkeypatch):
    runs = Runs()
    monkeypatch.setattr(run_desk, "run_script", runs.run_script)
    monkeypatch.setattr(module, "check_script", runs.check_script)
    return runs


@pytest.fixture
def servicer(runs):
    return servicer_over(None)


def servicer_over(relay):
    handling = Handling(relay, None, {}, Hosting.of_none())
    return ScriptServicer(RunDesk("the pool", relay, FakeClock(), handling, most=MOST), MOST)


async def run(servicer, **fields):
    set_context(CALLER)
    request = script_pb2.RunScriptRequest(**({"source": "return 1"} | fields))
    return [event async for event in servicer.RunScript(request, None)]


async def refused(servicer, reason, **fields):
    with pytest.raises(ServiceError) as caught:
        await run(servicer, **fields)
    assert caught.value.reason == reason
    return caught.value.metadata.get("field")


async def test_a_run_starts_prints_and_ends(servicer, runs):
    """Started with the call's id, then what was printed as it is, then the result."""
    runs.events.insert(0, Output(b"\xff\x00 hi"))
    started, output, result = await run(servicer)
    assert started.started.run_id == "r1"
    assert output.output.data == b"\xff\x00 hi"
    assert result.result.json == "null"
    assert result.result.elapsed.ToMilliseconds() == 500
    assert (result.result.call_count, result.result.output_bytes) == (2, 3)


async def test_the_run_is_the_one_that_was_asked_for(servicer, runs):
    """Source, name and arguments arrive; without limits the deployment's hold."""
    await run(
        servicer,
        source="print(1)",
        name="a.lua",
        positional_arguments=["x", ""],
        named_arguments={"k": "v"},
    )
    pool, spec, _ = runs.asked[0]
    assert pool == "the pool"
    assert (spec.source, spec.name) == ("print(1)", "a.lua")
    assert (tuple(spec.positional), dict(spec.named)) == (("x", ""), {"k": "v"})
    assert spec.limits == MOST


async def test_a_script_without_a_name_is_called_script(servicer, runs):
    """In messages it must be called something."""
    await run(servicer)
    assert runs.asked[0][1].name == "script"


async def test_calls_are_made_as_the_caller(servicer, runs):
    """The bridge has the caller's own context, and its run's time."""

    class Listener:
        def routes(self, method):
            return True

        async def call(self, method, request, context, *, timeout_s):
            raise ServiceError(Reason.ITEM_NOT_FOUND, f"{context.tenant} {timeout_s}")

    servicer = servicer_over(Listener())
    wall = Duration(seconds=3)
    await run(servicer, limits=script_pb2.RunLimits(wall_time=wall))
    hooked = runs.asked[0][2]
    state = Call(method="llmspell.v1.StateService/GetState", tenant=None, args={"key": "k"})
    assert (await hooked(state)).tree["reason"] == "PERMISSION_DENIED"
    bridge = hooked._place.calls._inner
    assert bridge._context == CALLER
    assert bridge._timeout_s == 3


@pytest.mark.parametrize("source", ["", " ", "\n\t "])
async def test_an_empty_script_is_refused(servicer, source):
    """There is nothing to run."""
    assert await refused(servicer, Reason.FIELD_REQUIRED, source=source) == "source"


async def test_a_long_script_is_refused(servicer, runs):
    """In bytes, not characters; as long as allowed is fine."""
    await run(servicer, source="-" * SCRIPT_BYTES_MAX)
    field = await refused(servicer, Reason.LIMIT_EXCEEDED, source="é" * (SCRIPT_BYTES_MAX // 2 + 1))
    assert field == "source"
    assert len(runs.asked) == 1


@pytest.mark.parametrize(
    "name", ["a\nb", "\x00", "a\x7f", "\x1b[2J", "n" * 129, "a\x9bb", "a\u2028b"]
)
async def test_a_name_that_steers_terminals_is_refused(servicer, name):
    """It is printed in messages."""
    assert await refused(servicer, Reason.FIELD_INVALID, name=name) == "name"


async def test_arguments_have_limits(servicer, runs):
    """In number and in bytes, names included."""
    many = [""] * (SCRIPT_ARGUMENTS_MAX + 1)
    large = "x" * (SCRIPT_ARGUMENT_BYTES_MAX + 1)
    for fields in (
        {"positional_arguments": many},
        {"positional_arguments": [large]},
        {"named_arguments": {"k": large}},
        {"named_arguments": {large: "v"}},
    ):
        assert await refused(servicer, Reason.LIMIT_EXCEEDED, **fields) == "arguments"
    assert runs.asked == []


@pytest.mark.parametrize(
    ("limits", "reason", "field"),
    [
        ({"wall_time": Duration(seconds=61)}, Reason.FIELD_INVALID, "limits.wall_time"),
        ({"wall_time": Duration(seconds=0)}, Reason.FIELD_INVALID, "limits.wall_time"),
        ({"wall_time": Duration(seconds=-1)}, Reason.FIELD_INVALID, "limits.wall_time"),
        ({"wall_time": Duration(seconds=2**40)}, Reason.FIELD_INVALID, "limits.wall_time"),
        ({"cpu_time": Duration(seconds=11)}, Reason.FIELD_INVALID, "limits.cpu_time"),
        ({"cpu_time": Duration(nanos=1)}, Reason.FIELD_INVALID, "limits.cpu_time"),
        ({"memory_bytes": 2**64 - 1}, Reason.LIMIT_EXCEEDED, "limits.memory_bytes"),
        ({"memory_bytes": 1}, Reason.FIELD_INVALID, "limits.memory_bytes"),
        ({"output_bytes": (1 << 20) + 1}, Reason.LIMIT_EXCEEDED, "limits.output_bytes"),
    ],
)
async def test_a_run_may_ask_for_less_and_never_for_more(servicer, runs, limits, reason, field):
    """Than the deployment gives, and for no nonsense."""
    asked = script_pb2.RunLimits(**limits)
    assert await refused(servicer, reason, limits=asked) == field
    assert runs.asked == []


async def test_smaller_limits_hold(servicer, runs):
    """Each of them."""
    asked = script_pb2.RunLimits(
        wall_time=Duration(seconds=1),
        cpu_time=Duration(nanos=500_000_000),
        memory_bytes=2 << 20,
        output_bytes=10,
    )
    await run(servicer, limits=asked)
    limits = runs.asked[0][1].limits
    assert (limits.wall_s, limits.cpu_s) == (1.0, 0.5)
    assert (limits.memory_bytes, limits.output_bytes, limits.calls_max) == (2 << 20, 10, 9)


async def test_a_run_that_fails_ends_the_call_with_its_reason(servicer, runs):
    """After what it printed."""
    runs.events = [Output(b"x"), ServiceError(Reason.SCRIPT_FAILED, "script:1: no")]
    assert await refused(servicer, Reason.SCRIPT_FAILED) is None
    assert runs.closed


async def test_a_caller_who_goes_away_ends_the_run_now(servicer, runs):
    """Closing the stream closes the run, before the garbage collector comes."""
    runs.events = [Output(b"x")]
    runs.waits = asyncio.Event()
    set_context(CALLER)
    stream = servicer.RunScript(script_pb2.RunScriptRequest(source="x"), None)
    assert (await anext(stream)).HasField("started")
    assert (await anext(stream)).HasField("output")
    await stream.aclose()
    assert runs.closed


async def test_a_cancelled_call_ends_the_run(servicer, runs):
    """While it waits for the script."""
    runs.events = []
    runs.waits = asyncio.Event()
    task = asyncio.create_task(run(servicer))
    await runs.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runs.closed


async def test_a_check_does_not_run(servicer, runs):
    """The same rules for source and name."""
    set_context(CALLER)
    await servicer.CheckScript(script_pb2.CheckScriptRequest(source="x = 1", name="a"), None)
    assert runs.checked == [("x = 1", "a")]
    with pytest.raises(ServiceError):
        await servicer.CheckScript(script_pb2.CheckScriptRequest(), None)
    assert runs.asked == []
