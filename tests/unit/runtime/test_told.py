"""What a run tells beside its output, and what of it is refused."""

import json

import msgspec
import pytest
import pytest_asyncio

from services.common import limits
from services.runtime.frames import FrameError
from services.runtime.pool import WorkerPool
from services.runtime.runs import Output, Result
from services.runtime.told import Log, Metrics, read_log, read_metrics
from tests.unit.runtime.running import run


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool():
    async with WorkerPool() as made:
        yield made


@pytest.mark.asyncio(loop_scope="module")
async def test_lines_come_as_they_are_written_and_numbers_at_the_end(pool):
    """Between what is printed before and after them."""
    source = """
      print("a") Logger.warn("low", {n = 1}) Debug.info("there", "db") print("b")
      Metrics.increment("jobs", 2) Metrics.observe("size", 1.5)
      return 5
    """
    ran = await run(pool, source)
    first, low, there, second, measured, result = ran.events
    assert (first, second) == (Output(b"a\n"), Output(b"b\n"))
    assert low == Log("warn", "low", "", '{"n":1}')
    assert there == Log("info", "there", "db", "")
    numbers = json.loads(measured.json)
    assert numbers["counters"] == {"jobs": 2}
    assert numbers["histograms"]["size"]["p95"] == 1.5
    assert isinstance(result, Result)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_run_that_fails_tells_its_numbers_too(pool):
    """They are why somebody looks."""
    for source in ('Metrics.gauge("g", 1) error("no")', 'Metrics.gauge("g", 1) os.exit(3)'):
        ran = await run(pool, source)
        assert ran.reason == "SCRIPT_FAILED"
        assert json.loads(ran.events[-1].json)["gauges"] == {"g": 1}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_log_counts_as_output(pool):
    """Who logs without end is stopped as who prints without end."""
    ran = await run(pool, 'while true do Logger.info(("x"):rep(1000)) end', output_bytes=50_000)
    assert ran.reason == "RUN_OUTPUT_LIMIT"
    assert sum(len(event.message) for event in ran.events) < 50_000


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_off_costs_nothing(pool):
    """No line, no reading of the clock, no call: a million times in the time of nothing."""
    source = """
      Debug.setLevel("error")
      local debug = Debug.debug
      local function costly() error("was called") end
      for _ = 1, 1000000 do debug(costly) end
      return "done"
    """
    ran = await run(pool, source)
    assert (ran.value, len(ran.events)) == ("done", 1)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b'{"level":"info"}',
        b'{"level":"loud","message":""}',
        b'{"level":"info","message":5}',
        b'{"level":"info","message":"\xff"}',
        b'{"level":"info","message":"","data":"{"}',
        msgspec.json.encode({"level": "info", "message": "x" * 5000}),
        msgspec.json.encode({"level": "info", "message": "", "module": "m" * 300}),
        msgspec.json.encode({"level": "info", "message": "", "data": "[" * 100_000}),
    ],
)
def test_a_line_that_is_none_breaks_the_protocol(payload):
    """Whatever a hostile worker sends instead."""
    with pytest.raises(FrameError):
        read_log(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"counters":{},"gauges":{},"histograms":{"x":5}}',
        b'{"counters":{"x":"5"},"gauges":{},"histograms":{}}',
        b'{"counters":{"x":null},"gauges":{},"histograms":{}}',
        b" " * (limits.RUN_METRICS_BYTES_MAX + 1),
    ],
)
def test_numbers_that_are_none_break_the_protocol(payload):
    """Or that are too many."""
    with pytest.raises(FrameError):
        read_metrics(payload)
    good = b'{"counters":{"a":1},"gauges":{"b":-1.5},"histograms":{"c":{"p50":2}}}'
    assert read_metrics(good) == Metrics(good.decode())
