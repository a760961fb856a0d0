"""What executing a tool costs, beside an empty call and beside a bare fork.

`python -m tests.performance.tool_bench` prints a Markdown table (about a minute; `make bench` does
it too). Rounds of a measurement and of its reference alternate; only ratios say something on a
machine that others use too.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

import grpc.aio
from llmspell import Client
from llmspell.v1 import state_pb2, state_pb2_grpc, tool_pb2, tool_pb2_grpc

from services.common.processes import Processes, running
from tests.integration.deployment import free_port
from tests.performance.report import Report
from tests.performance.rounds import Call, spans
from tests.unit.runtime.tooling import caller, open_toolbox

ROUNDS = 300


def _request(name: str, **arguments: str) -> tool_pb2.ExecuteToolRequest:
    request = tool_pb2.ExecuteToolRequest(name=name)
    for key, text in arguments.items():
        request.arguments.fields[key].string_value = text
    return request


async def bench_gateway(report: Report, address: str, key: str) -> None:
    """A tool in a process of its own, one that runs in the host, and the read of an item."""
    metadata = (("authorization", f"Bearer {key}"),)
    async with grpc.aio.insecure_channel(address) as channel:
        tools = tool_pb2_grpc.ToolServiceStub(channel)
        state = state_pb2_grpc.StateServiceStub(channel)
        item = state_pb2.SetStateRequest(key="k", value=state_pb2.Payload(json="1"))
        await state.SetState(item, metadata=metadata)
        jailed = _request("base64-encoder", operation="encode", input="hello")
        in_host = _request("environment-reader", operation="list")

        def executing(request: tool_pb2.ExecuteToolRequest) -> Call:
            return lambda _: tools.ExecuteTool(request, metadata=metadata)

        async def empty(_: int) -> None:
            await state.GetState(state_pb2.GetStateRequest(key="k"), metadata=metadata)

        works = {"jailed": executing(jailed), "host": executing(in_host), "empty": empty}
        took = await spans(works, ROUNDS)
    for name, words in (("jailed", "in a process of its own"), ("host", "that runs in the host")):
        ratio = took[name] / took["empty"]
        figure = f"{took[name] * 1e3:.2f} ms, {ratio:.2f} times as long"
        report.line(f"a tool {words}, beside the read of an item, through the gateway", figure)


async def bench_fork(report: Report) -> None:
    """The same without the gateway, and a bare fork that ends at once."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_toolbox(Path(folder)) as toolbox:
            given = {"operation": "encode", "input": "hello"}

            async def jailed(_: int) -> None:
                await toolbox.execute("base64-encoder", given, caller())

            async def bare(_: int) -> None:
                await asyncio.to_thread(subprocess.run, ["/bin/true"], check=True)

            took = await spans({"jailed": jailed, "bare": bare}, ROUNDS)
    ratio = took["jailed"] / took["bare"]
    report.line(
        "a tool from fork to answer in the runtime, beside a bare spawn of /bin/true",
        f"{took['jailed'] * 1e3:.2f} ms, {ratio:.2f} times as long",
    )


def _key(processes: Processes) -> str:
    with Client(processes.address, processes.operator_key) as operator:
        operator.create_tenant("bench")
        return operator.create_key("bench").key


async def bench(report: Report) -> None:
    """All of it."""
    await bench_fork(report)
    with tempfile.TemporaryDirectory() as folder:
        address = f"127.0.0.1:{free_port()}"
        async with running(Path(folder) / "data", address, report=print) as processes:
            key = await asyncio.to_thread(_key, processes)
            await bench_gateway(report, address, key)


def main() -> None:
    """Measure, and print a table."""
    report = Report()
    asyncio.run(bench(report))
    print(f"\n{os.cpu_count()} cores\n\n{report.table()}")


if __name__ == "__main__":
    main()
