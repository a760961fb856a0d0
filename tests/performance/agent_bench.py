"""What an agent costs beside an empty call, a tool in its loop beside a direct one, and waiting.

`python -m tests.performance.agent_bench` prints a Markdown table (about a minute; `make bench` does
it too). The model is the provider `scripted`, which takes no time of its own; the waiting agents
wait for a server on a socket. Only ratios say something on a machine that others use too.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path

import grpc.aio
from llmspell.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    state_pb2,
    state_pb2_grpc,
    tool_pb2,
    tool_pb2_grpc,
)

from tests.integration.wired import Wired, wired
from tests.models.openai_wire import say
from tests.models.scripted import Pause, Reply
from tests.performance.report import Report
from tests.performance.rounds import Call, spans

ROUNDS = 150
WAITING = 200
AGENT_TIMES_MAX, TOOL_TIMES_MAX = 3.0, 1.5
WAITING_BYTES_MAX = 200_000
TOOL = {"name": "base64-encoder", "arguments": {"operation": "encode", "input": "hello"}}
UNKNOWN = {"name": "unknown", "arguments": {}}
TOOLS = 4
"""Turns with a tool in the measured agent."""


def _request(*turns: dict[str, object], max_cost_usd: float = 0.0) -> agent_pb2.ExecuteAgentRequest:
    """An agent whose model asks for these tools, one a turn, and then is done."""
    replies = [{"tools": [turn]} for turn in turns] + [{"text": "done"}]
    spec = {
        "name": "bench",
        "model": "scripted/inline",
        "base_url": "data:application/json," + json.dumps({"replies": replies}),
        "tools": ["base64-encoder"],
        "limits": {"max_cost_usd": max_cost_usd},
    }
    return agent_pb2.ExecuteAgentRequest(agent={"spec": spec}, input={"text": "hello"})


async def bench_calls(report: Report, address: str, key: str) -> None:
    """Time: an agent without tools, and what each tool in its loop adds."""
    metadata = (("authorization", f"Bearer {key}"),)
    async with grpc.aio.insecure_channel(address) as channel:
        agents = agent_pb2_grpc.AgentServiceStub(channel)
        tools = tool_pb2_grpc.ToolServiceStub(channel)
        state = state_pb2_grpc.StateServiceStub(channel)
        item = state_pb2.SetStateRequest(key="k", value=state_pb2.Payload(json="1"))
        await state.SetState(item, metadata=metadata)
        direct = tool_pb2.ExecuteToolRequest(name="base64-encoder")
        for name, text in TOOL["arguments"].items():
            direct.arguments.fields[name].string_value = text

        def asking(request: agent_pb2.ExecuteAgentRequest) -> Call:
            return lambda _: agents.ExecuteAgent(request, metadata=metadata)

        async def empty(_: int) -> None:
            await state.GetState(state_pb2.GetStateRequest(key="k"), metadata=metadata)

        async def tool(_: int) -> None:
            for _ in range(TOOLS):  # as quickly one after the other as in the loop
                await tools.ExecuteTool(direct, metadata=metadata)

        works = {
            "empty": empty,
            "tool": tool,
            "agent": asking(_request()),
            "limited": asking(_request(max_cost_usd=1.0)),
            "with": asking(_request(*[TOOL] * TOOLS)),
            "without": asking(_request(*[UNKNOWN] * TOOLS)),
        }
        took = await spans(works, ROUNDS)
    ratio = took["agent"] / took["empty"]
    report.asked(
        "an agent whose model answers at once, beside the read of an item, through the gateway",
        f"{took['agent'] * 1e3:.2f} ms, {ratio:.2f} times as long",
        f"at most {AGENT_TIMES_MAX:g} times",
        ratio <= AGENT_TIMES_MAX,
    )
    limited = took["limited"] / took["empty"]
    report.line(
        "the same with a limit of money, so that what it spent is on disk before it answers",
        f"{took['limited'] * 1e3:.2f} ms, {limited:.2f} times as long",
    )
    added, alone = (took["with"] - took["without"]) / TOOLS, took["tool"] / TOOLS
    report.asked(
        "a tool in an agent's loop, beside the same tool called directly",
        f"{added * 1e3:.2f} ms, {added / alone:.2f} times as long",
        f"at most {TOOL_TIMES_MAX:g} times",
        added / alone <= TOOL_TIMES_MAX,
    )
    turn = (took["without"] - took["agent"]) / TOOLS
    report.line(
        "a turn of an agent's loop without a tool, beside the read of an item",
        f"{turn * 1e3:.2f} ms, {turn / took['empty']:.2f} times as long",
    )


async def bench_waiting(report: Report, up: Wired, key: str) -> None:
    """Memory of the runtime's host while agents wait for a provider on a socket."""
    model = up.models.behave("waits", lambda _: _late)
    quick = up.models.add("quick", say("ok"))
    metadata, pid = (("authorization", f"Bearer {key}"),), up.up.pid("runtime")
    async with grpc.aio.insecure_channel(up.up.address) as channel:
        agents = agent_pb2_grpc.AgentServiceStub(channel)

        def ask(model: str) -> grpc.aio.UnaryUnaryCall:
            spec = {"name": "bench", "model": model}
            request = agent_pb2.ExecuteAgentRequest(agent={"spec": spec}, input={"text": "x"})
            return agents.ExecuteAgent(request, metadata=metadata, timeout=120)

        # What is made once (imports, connections' code, caches) is not of those that wait.
        await asyncio.gather(*(ask(quick) for _ in range(20)))
        before = _bytes_of(pid)
        waiting = [ask(model) for _ in range(WAITING)]
        there = await asyncio.to_thread(
            up.server.until, lambda: len(up.models.asked("waits")) == WAITING, 60
        )
        assert there, "not all of them wait"
        used = _bytes_of(pid) - before
        for call in waiting:
            call.cancel()
    report.asked(
        f"memory of the runtime for each of {WAITING} agents that wait for a provider",
        f"{used / WAITING / 1000:.0f} KB",
        f"under {WAITING_BYTES_MAX // 1000} KB",
        used / WAITING < WAITING_BYTES_MAX,
    )


def _late(_request: object) -> Reply:
    return Reply(before=Pause(90))


def _bytes_of(pid: int) -> int:
    """Memory that a process has for itself."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    words = next(line.split() for line in lines if line.startswith("Private_Dirty:"))
    return int(words[1]) * 1024


async def bench(report: Report) -> None:
    """All of it."""
    with tempfile.TemporaryDirectory() as folder, wired(Path(folder)) as up:
        key = up.up.keys["acme"]
        await bench_calls(report, up.up.address, key)
        await bench_waiting(report, up, key)


def main() -> None:
    """Measure, and print a table."""
    report = Report()
    asyncio.run(bench(report))
    print(f"\n{os.cpu_count()} cores\n\n{report.table()}")


if __name__ == "__main__":
    main()
