"""What workflows cost: steps beside direct calls of the same tool, and branches beside one.

`python -m tests.performance.workflow_bench` prints a Markdown table (`make bench` does it too).
Everything goes through the gateway; only ratios say something on a machine that others use too.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from llmspell import Client

from services.common.processes import Processes, running
from tests.integration.deployment import free_port
from tests.integration.workflow_door import Door
from tests.performance.report import Report

STEPS = 1000
ROUNDS = 3
WAIT_S = 0.2
BRANCHES = 8
ECHO = {"tool": "base64-encoder", "arguments": {"operation": "encode", "input": "hello"}}
"""In a process of its own, as nearly all tools."""
HOSTED = {"tool": "environment-reader", "arguments": {"operation": "list"}}
"""In the host: the quickest there is."""


def waits(name: str) -> dict[str, Any]:
    """A step that waits for an event that does not come."""
    arguments = {"pattern": "bench.nothing", "wait": WAIT_S, "after": 0}
    return {"name": name, "call": {"method": "EventService/PollEvents", "arguments": arguments}}


def sequential(tool: dict[str, Any], count: int) -> dict[str, Any]:
    """So many steps of one tool."""
    steps = [{"name": f"s{number}", "tool": tool} for number in range(count)]
    return {"name": "bench", "sequential": {"steps": steps}}


def parallel(count: int) -> dict[str, Any]:
    """So many branches that wait."""
    branches = [{"name": f"b{number}", "steps": [waits("s")]} for number in range(count)]
    return {"name": "bench", "parallel": {"branches": branches, "max_concurrency": count}}


def took(work: Callable[[], object]) -> float:
    """Seconds."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def run(door: Door, workflow: dict[str, Any]) -> None:
    """One run, which must succeed."""
    progress = door.call("WorkflowService/ExecuteWorkflow", workflow=workflow, timeout=280)
    output = progress["progress"]["workflow"]
    assert output["success"], output["failure"]


def direct(door: Door, tool: dict[str, Any], count: int) -> None:
    """The same tool as often, each by a call of its own."""
    for _ in range(count):
        door.call("ToolService/ExecuteTool", name=tool["tool"], arguments=tool["arguments"])


def bench(report: Report, door: Door) -> None:
    """All of it."""
    run(door, sequential(ECHO, 3))
    one, eight = [], []
    for _ in range(5 * ROUNDS):
        one.append(took(lambda: run(door, parallel(1))))
        eight.append(took(lambda: run(door, parallel(BRANCHES))))
    ratio = statistics.median(eight) / statistics.median(one)
    measured = f"{statistics.median(eight) * 1e3:.0f} ms, {ratio:.3f} times as long"
    what = f"{BRANCHES} branches that wait {WAIT_S * 1e3:.0f} ms each, beside one"
    report.asked(what, measured, "at most 1.15", ratio <= 1.15)
    for tool, words in ((ECHO, "in a process of its own"), (HOSTED, "in the host")):
        steps, calls = [], []
        for _ in range(ROUNDS):
            steps.append(took(lambda tool=tool: run(door, sequential(tool, STEPS // ROUNDS))))
            calls.append(took(lambda tool=tool: direct(door, tool, STEPS // ROUNDS)))
        ratio = sum(steps) / sum(calls)
        measured = f"{sum(steps) / STEPS * 1e3:.2f} ms, {ratio:.2f} times as long"
        what = f"a step of a trivial tool {words}, of {STEPS}, beside a direct call"
        report.asked(what, measured, "at most 2", ratio <= 2)


def _key(processes: Processes) -> str:
    with Client(processes.address, processes.operator_key) as operator:
        operator.create_tenant("bench")
        return operator.create_key("bench").key


async def _all(report: Report) -> None:
    with tempfile.TemporaryDirectory() as folder:
        address = f"127.0.0.1:{free_port()}"
        async with running(Path(folder) / "data", address, report=print) as processes:
            key = await asyncio.to_thread(_key, processes)
            with grpc.insecure_channel(address) as channel:
                await asyncio.to_thread(bench, report, Door(channel, key))


def main() -> None:
    """Measure, and print a table."""
    report = Report()
    asyncio.run(_all(report))
    print(f"\n{os.cpu_count()} cores\n\n{report.table()}")


if __name__ == "__main__":
    main()
