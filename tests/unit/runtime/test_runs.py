"""Runs in real workers: what comes back, what is refused, what is killed."""

import asyncio
import contextlib
import json
import os

import pytest
import pytest_asyncio

from services.common.errors import Reason, ServiceError
from services.runtime.pool import WorkerPool
from services.runtime.runs import (
    Output,
    Reply,
    Result,
    RunLimits,
    RunSpec,
    check_script,
    run_script,
)
from services.runtime.worker import vm
from tests.unit.runtime.running import Host, no_calls, run

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool():
    async with WorkerPool() as made:
        yield made


async def test_output_comes_in_order_as_it_is_printed(pool):
    """Each print is an event of its own, before the result."""
    ran = await run(pool, 'print("a", 1, 2.0, 2.5, nil, true) io.write("b", 3) print()')
    assert [event.data for event in ran.events[:-1]] == [
        b"a\t1\t2\t2.5\tnil\ttrue\n",
        b"b",
        b"3",
        b"\n",
    ]
    result = ran.events[-1]
    assert isinstance(result, Result)
    assert (result.json, result.output_bytes, result.call_count) == ("null", len(ran.output), 0)


async def test_output_is_there_while_the_script_still_runs(pool):
    """A consumer sees a line before the run ends."""
    spec = RunSpec('print("now") while true do end')
    async with contextlib.aclosing(run_script(pool, spec, no_calls)) as events:
        assert await anext(events) == Output(b"now\n")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "null"),
        ("return", "null"),
        ("return nil", "null"),
        ("return 3", "3"),
        ("return 3.0", "3.0"),
        ("return 0.1", "0.1"),
        ("return 1/3", "0.3333333333333333"),
        ("return 1, nil, 'x'", '[1,null,"x"]'),
        ("return nil, nil", "[null,null]"),
        ("return {1, 2, {a = true}}", '[1,2,{"a":true}]'),
        ("return {}", "{}"),
        ("return {b = 1, a = 2}", '{"a":2,"b":1}'),
        ("return {1, 2, x = 3}", "[1,2]"),
        ("return {[1] = 'a', [3] = 'b'}", '{"1":"a","3":"b"}'),
        ("return 0/0", "null"),
        ("return math.maxinteger", "9223372036854775807"),
        ("return 'a\"\\n\\0é'", '"a\\"\\n\\u0000é"'),
        ("return JSON.parse('[]')", "[]"),
        ("os.exit()", "null"),
        ("pcall(os.exit, 0) return 5", "null"),
        ("coroutine.wrap(function() os.exit(true) end)() return 5", "null"),
    ],
)
async def test_return_values_become_json(pool, source, expected):
    """One value is itself, none is null, several are a list."""
    spec = RunSpec(source)
    events = [event async for event in run_script(pool, spec, no_calls)]
    assert events[-1].json == expected
    json.loads(expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("return print", "result is a function, which JSON cannot hold."),
        ("return {a = {b = coroutine.create(print)}}", "result.a.b is a thread"),
        ("local t = {} t.t = t return t", "result.t contains itself (result.t → result)."),
        ("return 1, '\\xff'", "result[2] is text that is not UTF-8."),
        ("return {[true] = 1}", "result has a key that is a boolean."),
        ("local t = {} for i = 1, 70 do t = {t} end return t", "is nested deeper than 64."),
        ("local t = {} for i = 1, 100001 do t[i] = i end return t", "more than 100000 values"),
        ("return ('x'):rep(2200000)", "the limit is"),
    ],
)
async def test_a_result_that_json_cannot_hold_is_named(pool, source, message):
    """The run fails and the message says where the value is."""
    ran = await run(pool, source)
    assert ran.reason == "SCRIPT_FAILED"
    assert message in ran.error.message


async def test_arguments_are_readable_in_every_customary_way(pool):
    """ARGS by name and number, arg, and the chunk's own varargs."""
    source = """
      local first = ...
      return {ARGS.k, ARGS[1], ARGS[2], ARGS[0], arg[1], arg[0], #arg, first, tostring(args)}
    """
    ran = await run(pool, source, positional=["x", "é"], named={"k": "v"})
    assert ran.value == ["v", "x", "é", "demo.lua", "x", "demo.lua", 2, "x", "nil"]


async def test_syntax_error_names_file_line_and_text(pool):
    """A script that does not compile fails before it runs."""
    ran = await run(pool, "print('no')\nlocal x = = 2")
    assert ran.reason == "SCRIPT_SYNTAX"
    assert ran.error.message == "demo.lua:2: unexpected symbol near '='"
    assert ran.error.metadata == {"name": "demo.lua", "line": "2"}
    assert ran.output == b""


async def test_check_compiles_without_running(pool):
    """Checking says the same of bad text and runs nothing of good text."""
    await check_script(pool, "while true do end")
    with pytest.raises(ServiceError, match=r"demo\.lua:1: ") as caught:
        await check_script(pool, "x = = 1", "demo.lua")
    assert caught.value.reason == Reason.SCRIPT_SYNTAX


async def test_a_first_line_for_the_shell_is_a_comment(pool):
    """A script may begin with #! and keeps its line numbers."""
    ran = await run(pool, "#!/usr/bin/env llmspell\nerror('x')")
    assert ran.error.message == "demo.lua:2: x"


@pytest.mark.parametrize(
    ("source", "message", "line"),
    [
        ("\nlocal t\nt.x = 1", "demo.lua:3: attempt to index a nil value (local 't')", "3"),
        ("error('plain', 0)", "demo.lua:1: plain", "1"),
        ("error()", "demo.lua:1: the script raised a nil", "1"),
        ("error({})", "demo.lua:1: the script raised a table", "1"),
        ("error({message = 'm'})", "demo.lua:1: m", "1"),
        ("error(setmetatable({}, {__tostring = function() return 's' end}))", "demo.lua:1: s", "1"),
        (
            "error(setmetatable({}, {__tostring = function() error('y') end}))",
            "demo.lua:1: the script raised an error that cannot be shown",
            "1",
        ),
        ("error(12)", "demo.lua:1: 12", "1"),
        ("\nRAG.search()", "demo.lua:2: FIELD_REQUIRED: query must be set.", "2"),
        ("os.exit(3)", "exit status 3", None),
        ("os.exit(false)", "exit status 1", None),
        ("local function f(n) return n + f(n + 1) end f(1)", "demo.lua:1: stack overflow", "1"),
        ("return ('x'):rep(1 << 33)", "demo.lua:1: resulting string too large", "1"),
    ],
)
async def test_a_script_error_says_where(pool, source, message, line):
    """The message has file and line, the metadata the line."""
    ran = await run(pool, source)
    assert ran.reason == "SCRIPT_FAILED"
    assert ran.error.message == message
    assert ran.error.metadata.get("line") == line


async def test_a_host_error_keeps_its_reason(pool):
    """An uncaught error of a call names its cause."""
    ran = await run(pool, "RAG.search('')", Refusing())
    assert ran.error.message == "demo.lua:1: SCOPE_INVALID: No."
    assert ran.error.metadata["cause"] == "SCOPE_INVALID"


class Refusing:
    """A host that refuses all."""

    async def __call__(self, call):
        tree = {"code": "INVALID_ARGUMENT", "reason": "SCOPE_INVALID", "message": "No."}
        return Reply(ok=False, tree=tree)


async def test_a_long_message_is_cut_and_made_text(pool):
    """Whatever is raised, the error is short UTF-8."""
    ran = await run(pool, "error(('\\xff'):rep(5000000), 0)")
    assert ran.reason == "SCRIPT_FAILED"
    assert 100 < len(ran.error.message) <= 2048
    assert "\ufffd" in ran.error.message


@pytest.mark.parametrize(
    "source",
    [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "coroutine.wrap(function() while true do end end)()",
        "xpcall(error, function() while true do end end)",
        "local s = ('a'):rep(100) s:find(('.-'):rep(50) .. 'b')",
        "table.move(setmetatable({}, {__len = function() return 1 << 40 end}), 1, 1 << 40, 2)",
        "local t <close> = setmetatable({}, {__close = function() while true do end end})",
        "repeat until false",
        "local function f() return f() end f()",
    ],
)
async def test_a_script_without_end_is_killed_at_its_deadline(pool, source):
    """No way of looping outlives the clock."""
    ran = await run(pool, source, wall_s=0.3)
    assert ran.reason == "RUN_TIME_LIMIT"
    assert ran.error.metadata == {"limit": "0.3"}


async def test_output_before_the_deadline_is_not_lost(pool):
    """What was printed before the kill is delivered."""
    ran = await run(pool, "print('kept') while true do end", wall_s=0.3)
    assert ran.output == b"kept\n"
    assert ran.reason == "RUN_TIME_LIMIT"


async def test_waiting_for_the_host_counts(pool):
    """A call that does not return ends with the run's time."""

    async def never(call):
        await asyncio.Event().wait()

    ran = await run(pool, "State.get('k')", never, wall_s=0.3)
    assert ran.reason == "RUN_TIME_LIMIT"


async def test_processor_time_is_limited(pool):
    """The kernel ends a run that uses more than its processor time."""
    ran = await run(pool, "while true do end", cpu_s=0.5)
    assert ran.reason == "RUN_CPU_LIMIT"
    assert ran.error.metadata == {"limit": "1"}


@pytest.mark.parametrize(
    "source",
    [
        "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} while true do t = {t, t} end",
        "return ('x'):rep(1 << 30)",
        "local function f() return 1 + f() end f()",
    ],
)
async def test_a_script_that_eats_memory_is_told_so(pool, source):
    """Whatever fills the heap, the reason is memory."""
    ran = await run(pool, source, memory_bytes=16 * 1024 * 1024)
    assert ran.reason == "RUN_MEMORY_LIMIT"
    assert ran.error.metadata == {"limit": str(16 * 1024 * 1024)}


async def test_catching_the_memory_error_gains_nothing(pool):
    """A loop that catches it ends by time or memory, never by a crash."""
    source = "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(1e5) .. #t end) end"
    ran = await run(pool, source, memory_bytes=8 * 1024 * 1024, wall_s=1.0)
    assert ran.reason in {"RUN_TIME_LIMIT", "RUN_MEMORY_LIMIT"}


async def test_calls_with_a_full_heap_neither_hang_nor_crash(pool):
    """A reply into a full heap is a memory error that the script can catch, time after time."""

    async def long_reply(call):
        value = {"json": '"' + "y" * 500_000 + '"'}
        return Reply(ok=True, tree={"item": {"value": value}})

    source = """
      local hold, refused = {}, 0
      local function fill() hold[#hold + 1] = ('x'):rep(1000) .. #hold end
      for _ = 1, 20 do
        while pcall(fill) do end
        for _ = 1, 100 do hold[#hold] = nil end
        local ok, e = pcall(State.get, 'k')
        if not ok and e == 'not enough memory' then refused = refused + 1 end
      end
      hold = nil
      return #State.get('k'), refused
    """
    ran = await run(pool, source, long_reply, memory_bytes=4 * 1024 * 1024)
    assert ran.value == [500_000, 20]


async def test_the_order_must_fit_the_memory(pool):
    """A source that fills the heap before it starts is a memory error, not a crash."""
    ran = await run(pool, "--" + "x" * 262_000, memory_bytes=1024 * 1024)
    assert ran.value is None
    assert ran.reason is None
    with pytest.raises(ServiceError, match=r"limits\.memory_bytes must be at least 1048576"):
        RunLimits(memory_bytes=1000)


@pytest.mark.parametrize(
    "source", ["while true do print(('x'):rep(99)) end", "io.write(('x'):rep(1 << 24))"]
)
async def test_output_is_limited(pool, source):
    """Printing more than allowed ends the run, in small pieces or in one."""
    ran = await run(pool, source, output_bytes=20_000)
    assert ran.reason == "RUN_OUTPUT_LIMIT"
    assert ran.error.metadata == {"limit": "20000"}
    assert len(ran.output) <= 20_000


async def test_output_up_to_the_limit_is_allowed(pool):
    """The limit itself is not over the limit."""
    ran = await run(pool, "io.write(('x'):rep(200000))", output_bytes=200_000)
    assert ran.reason is None
    assert len(ran.output) == 200_000


async def test_calls_are_limited(pool):
    """One call more than allowed ends the run."""
    host = Host()
    ran = await run(pool, "for i = 1, 6 do State.set('k', i) end", host, calls_max=5)
    assert ran.reason == "RUN_CALL_LIMIT"
    assert len(host.calls) == 5


async def test_a_reply_too_large_is_an_error_in_the_script(pool):
    """The script can catch it and go on."""

    async def huge(call):
        return Reply(ok=True, tree={"item": {"value": {"json": "1" * 3_000_000}}})

    source = "local ok, e = pcall(State.get, 'k') return ok, e.reason, e.code, e.metadata.limit"
    ran = await run(pool, source, huge)
    assert ran.value == [False, "MESSAGE_TOO_LARGE", "RESOURCE_EXHAUSTED", "2097152"]


async def test_what_the_host_raises_ends_the_run(pool):
    """A fault of the host is not shown to the script."""
    with pytest.raises(AssertionError, match="unexpected call"):
        await run(pool, "pcall(State.get, 'k') print('unreached')")


async def test_a_time_out_of_the_host_s_own_is_not_the_run_s(pool):
    """Only the run's deadline is RUN_TIME_LIMIT."""

    async def fail(call):
        raise TimeoutError("the host's")

    with pytest.raises(TimeoutError, match="the host's"):
        await run(pool, "State.get('k')", fail)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"source": "x" * 262_145}, "source is 262145 bytes; the limit is 262144 bytes."),
        ({"source": b"\x1bLua"}, "source must be Lua text, not bytecode."),
        ({"source": "", "name": "a\nb"}, "name must be 1 to 200 printable characters."),
        ({"source": "", "name": ""}, "name must be 1 to 200 printable characters."),
        ({"source": "", "positional": ["x"] * 65}, "arguments is 65; the limit is 64."),
        ({"source": "", "named": {"k": "v" * 70_000}}, "the limit is 65536 bytes together."),
    ],
)
async def test_bad_orders_are_refused_before_a_worker_is_taken(pool, spec, message):
    """Size, kind and name are checked first."""
    with pytest.raises(ServiceError) as caught:
        await anext(run_script(pool, RunSpec(**spec), no_calls))
    assert message in caught.value.message


@pytest.mark.parametrize("limits", [{"wall_s": 0}, {"cpu_s": -1}, {"wall_s": float("nan")}])
async def test_limits_must_make_sense(limits):
    """A limit that is no limit is refused."""
    with pytest.raises(ServiceError, match="must be a positive number of seconds"):
        RunLimits(**limits)


async def test_bytes_of_any_kind_can_be_printed(pool):
    """Output is bytes."""
    ran = await run(pool, "io.write('\\0\\xff\\n')")
    assert ran.output == b"\x00\xff\n"


async def test_runs_share_nothing(pool):
    """A global of one run is not there in the next, and random numbers differ."""
    first = await run(pool, "x = 1 string.y = 2 return math.random(1 << 60)")
    second = await run(pool, "return x == nil and string.y == nil and math.random(1 << 60)")
    assert second.value is not False
    assert first.value != second.value


async def test_closing_the_iterator_kills_the_worker(pool):
    """Nothing of an abandoned run stays behind."""
    spec = RunSpec('print("now") while true do end')
    seen = []
    acquire = pool.acquire

    async def acquired(limits):
        seen.append(await acquire(limits))
        return seen[0]

    pool.acquire = acquired
    try:
        async with contextlib.aclosing(run_script(pool, spec, no_calls)) as events:
            await anext(events)
    finally:
        del pool.acquire
    assert seen[0].ended.done()
    assert seen[0].ended.result().status == -9


async def test_a_slow_consumer_slows_the_script(pool):
    """While nobody takes events, the worker is held, not buffered for."""
    spec = RunSpec(
        "for i = 1, 2000 do io.write(('x'):rep(1000)) end State.set('done', 1)",
        limits=RunLimits(output_bytes=4_000_000),
    )
    host = Host()
    async with contextlib.aclosing(run_script(pool, spec, host)) as events:
        await anext(events)
        for _ in range(200):
            await asyncio.sleep(0)
        assert not host.calls
        rest = [event async for event in events]
    assert len(host.calls) == 1
    assert rest[-1].output_bytes == 2_000_000


async def test_a_global_that_is_off_reads_as_nil(pool):
    """What the order names is not there, and the next run has it again."""
    off = frozenset({"State", "JSON"})
    spec = RunSpec("return State == nil and _G.JSON == nil and RAG ~= nil", globals_off=off)
    events = [event async for event in run_script(pool, spec, no_calls)]
    assert events[-1].json == "true"
    assert (await run(pool, "return State ~= nil")).value is True


async def test_equal_seeds_give_equal_numbers(pool):
    """Chance comes with the order, so that a run can be given the same again."""
    spec = RunSpec("return math.random(1 << 60)", seeds=(-(2**63), 2**63 - 1))
    first, second = [[event async for event in run_script(pool, spec, no_calls)] for _ in range(2)]
    assert first[-1].json == second[-1].json
    other = await run(pool, "return math.random(1 << 60)")
    assert str(other.value) != first[-1].json


async def test_time_and_memory_are_what_the_host_tells(pool):
    """What a script can learn of clock and heap comes from the readings it is given."""
    asked = []

    def readings(what):
        asked.append(what[:1])
        return {b"t": 86_400_000_000_000 * 365, b"c": 2_500_000_000, b"m": 2048 * 1000}[what[:1]]

    source = (
        'return {os.time(), os.clock(), collectgarbage("count"), os.date("%Y-%m-%d"), '
        'os.date("*t").year, os.date(nil):sub(-4), os.time{year = 1970, month = 1, day = 2}}'
    )
    async with contextlib.aclosing(run_script(pool, RunSpec(source), no_calls, readings)) as events:
        result = [event async for event in events][-1]
    assert json.loads(result.json) == [
        31536000, 2.5, 2000.0, "1971-01-01", 1971, "1971", 129600,
    ]  # fmt: skip
    assert asked == [b"t", b"c", b"m", b"t", b"t", b"t"]


async def test_too_many_readings_end_the_run(pool, monkeypatch):
    """A run that asks for the time for ever is ended by a limit that is named."""
    monkeypatch.setattr("services.common.limits.RUN_READINGS_MAX", 100)
    ran = await run(pool, "while true do os.clock() end")
    assert (ran.reason, ran.error.metadata["limit"]) == ("RUN_CALL_LIMIT", "100")


async def test_a_run_that_computes_gives_way(pool):
    """A run that spins ends up with what others leave; one that waits does not."""
    seen = {}

    async def look(call):
        pid = call.worker_pid
        for _ in range(200 if call.args["key"] == "spins" else 15):
            seen[call.args["key"]] = os.sched_getscheduler(pid)
            if seen[call.args["key"]] == os.SCHED_IDLE:
                break
            await asyncio.sleep(0.02)
        return Reply(ok=True, tree={"revision": 1})

    await run(pool, "State.set('waits', 1)", look)
    await run(pool, "for i = 1, 5e7 do end State.set('spins', 1)", look)
    assert seen == {"waits": os.SCHED_OTHER, "spins": os.SCHED_IDLE}


async def test_a_fault_of_python_before_the_callback_stays_outside(pool):
    """Out of address space, Python's own exception would be an object in the script's hands."""
    seen = []

    def callback(operation, data):
        seen.append((operation, data))
        if operation == b"o":
            raise MemoryError
        return 0

    _, prepare, go = vm.build(callback)
    source = b"local ok, raised = pcall(print, 'x') return type(raised), raised"
    numbers = (100_000, 1 << 20, 64, 1000)
    prepare(source, b"n", b"\x80", False, *numbers, b"", 1, 2, b"")  # noqa: FBT003 - Lua's
    go()
    assert seen[-1] == (b"r", b'["string","not enough memory"]')


@pytest.mark.parametrize(
    "source",
    [
        "local s = string.format('%s%s', ('x'):rep(12 << 20), ('y'):rep(12 << 20)) return #s",
        "local keep = {} for i = 1, 1e9 do local t = setmetatable({}, {}) keep[i] = t end",
        "error(('x'):rep(1 << 26))",
    ],
)
async def test_memory_is_memory_wherever_it_runs_out(pool, source):
    """In what stands between the script and Lua's own functions too."""
    ran = await run(pool, source, memory_bytes=16 * 1024 * 1024)
    assert ran.reason == "RUN_MEMORY_LIMIT"


async def test_many_results_are_refused_by_their_number(pool):
    """More values than a list may have are an error of the script's, not the worker's end."""
    ran = await run(pool, "return table.unpack({}, 1, 900000)")
    assert ran.reason == "SCRIPT_FAILED"
    assert ran.error.message == "result is more than 100000 values."
