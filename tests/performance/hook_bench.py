"""What hooks cost: ten that do nothing against none, on a call of a tool.

`python -m tests.performance.hook_bench` prints a Markdown table (half a minute; `make bench` does
it too). What hooks add is microseconds, and a tool's call varies by more: it is measured on calls
that are answered at once, where it shows, and set against the time of a real tool's call in the
same run of this program. Rounds with and without alternate.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from services.common.settings import EventsSettings, HooksSettings
from services.common.telemetry import Counts
from services.runtime.hooks.announcing import Announcer
from services.runtime.hooks.built_in import guarded
from services.runtime.hooks.hosting import Hosting
from services.runtime.hooks.model import HostCall, Proceed, RunInfo
from services.runtime.pool import WorkerPool
from services.runtime.runs import Call, CallHandler, Reply, Result, RunLimits, RunSpec, run_script
from tests.performance.report import Report
from tests.unit.runtime.tooling import caller, open_toolbox, tool_bridge

HOOKS = 10
SHARE = 0.02
ANSWER = Reply(ok=True, tree={"success": True, "operation": "encode", "result": {"output": "eA=="}})

SCRIPT = """
local rounds, count = tonumber(ARGS.rounds), tonumber(ARGS.count)
local input = {operation = "encode", input = "x"}
local function took()
  local began = os.clock()
  for _ = 1, count do Tool.execute("base64-encoder", input) end
  return (os.clock() - began) / count * 1e6
end
took()
local without, with = {}, {}
for round = 1, rounds do
  without[round] = took()
  local handles = {}
  for i = 1, 10 do handles[i] = Hook.register(ARGS.point, function() end) end
  with[round] = took()
  for i = 1, 10 do handles[i]:unregister() end
end
return {without = without, with = with}
"""


async def _run(pool: WorkerPool, call: CallHandler, rounds: int, count: int) -> dict[str, float]:
    """Medians in microseconds a call."""
    named = {"rounds": str(rounds), "count": str(count), "point": "BeforeToolExecution"}
    limits = RunLimits(wall_s=120, cpu_s=60, calls_max=10**6)
    spec = RunSpec(SCRIPT, "bench.lua", named=named, limits=limits)
    async for event in run_script(pool, spec, call):
        if isinstance(event, Result):
            told = json.loads(event.json)
    added = [one - other for one, other in zip(told["with"], told["without"], strict=True)]
    return {
        "without": statistics.median(told["without"]),
        "added": statistics.median(added),
    }


async def _nothing(call: HostCall, proceed: Proceed) -> Reply:
    return await proceed(call)


async def _at_once(_: object) -> Reply:
    return ANSWER


async def _nowhere(*_: object) -> None:
    pass


async def _of_host(count: int = 2000, rounds: int = 15) -> float:
    """What ten hooks of the host add, in microseconds a call."""
    counts = Counts()
    announcer = Announcer(_nowhere, EventsSettings(enabled=False), counts)
    settings = HooksSettings(slow_s=1000.0)  # a busy machine is not to open a breaker
    hooks = guarded([(f"h{n}", _nothing) for n in range(HOOKS)], settings, counts, announcer)
    call = Call("llmspell.v1.ToolService/ExecuteTool", None, {"name": "base64-encoder"})

    async def took(hosting: Hosting) -> float:
        async with hosting.run(_at_once, RunInfo(caller())) as hooked:
            begin = time.perf_counter()
            for _ in range(count):
                await hooked(call)
            return (time.perf_counter() - begin) / count * 1e6

    none, ten = Hosting((), announcer), Hosting(hooks, announcer)
    await took(ten)
    return statistics.median([await took(ten) - await took(none) for _ in range(rounds)])


async def measure(report: Report) -> None:
    """Both kinds of hooks, against a real tool's call."""
    with tempfile.TemporaryDirectory() as folder:
        async with WorkerPool() as pool, open_toolbox(Path(folder)) as toolbox:
            real = await _run(pool, tool_bridge(toolbox), rounds=30, count=2)
            quick = await _run(pool, _at_once, rounds=40, count=200)
    host_us = await _of_host()
    whole_us = real["without"]
    report.line("a call of base64-encoder from a script", f"{whole_us / 1000:.2f} ms")
    report.line("the same with ten hooks, measured whole", f"{real['added'] / whole_us:+.1%}")
    for whose, added_us in (("the script's own", quick["added"]), ("of the host", host_us)):
        share = added_us / whole_us
        figure = f"{added_us:.1f} µs, {share:.2%} of it"
        report.asked(f"ten hooks {whose} that do nothing", figure, f"< {SHARE:.0%}", share < SHARE)


def main() -> None:
    """Measure, and print a table."""
    report = Report()
    asyncio.run(measure(report))
    print(report.table())


if __name__ == "__main__":
    main()
