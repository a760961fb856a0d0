"""Scripts and workflows of one client: what they write while ways and processes fail under them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from llmspell.errors import from_rpc
from llmspell.v1 import execution_pb2, script_pb2, workflow_pb2

from tests.crash.ledgers.items import listed
from tests.crash.ledgers.ledger import Ledger, Stubs, UnknownError, Work, answered
from tests.crash.soak.clients import Repeating
from tests.crash.soak.witness import RETRYABLE

STEPS = ("a", "b", "c")
COMPLETED = execution_pb2.WORKFLOW_STATUS_COMPLETED
LUA = """
local ok, told = pcall(function()
  State.save(ARGS.scope, "last", ARGS.number)
  RAG.ingest({ { id = "d" .. ARGS.slot, text = ARGS.text } }, { collection = ARGS.collection })
  for _, each in ipairs(RAG.search(ARGS.text, { collection = ARGS.collection, k = 3 })) do
    if each.text == ARGS.text then return { number = State.load(ARGS.scope, "last") } end
  end
  error({ reason = "what was ingested is not found" })
end)
return ok and told or { reason = told.reason or tostring(told) }
"""

BAD = (
    "while true do end",
    "local t = {} while true do t[#t + 1] = ('x'):rep(100000) .. #t end",
    "error('it breaks')",
    "while true do print(('x'):rep(10000)) end",
)
BAD_EACH = 3
BAD_S = 1.5
BAD_ENDS = {"RUN_TIME_LIMIT", "RUN_CPU_LIMIT", "RUN_MEMORY_LIMIT", "RUN_OUTPUT_LIMIT"}
BAD_ENDS |= {"SCRIPT_FAILED", "RUN_TENANT_LIMIT"}


async def storm(stubs: Stubs) -> None:
    """Scripts that spin, fill memory, break and print for ever, at once; each has its limits."""

    async def run(source: str) -> None:
        request = script_pb2.RunScriptRequest(source=source)
        request.limits.wall_time.FromMilliseconds(int(BAD_S * 1000))
        try:
            told = [each async for each in stubs.scripts.RunScript(request)]
        except UnknownError:
            return
        except grpc.aio.AioRpcError as error:
            assert from_rpc(error, "the gateway").reason in BAD_ENDS, error  # noqa: PT017
            return
        raise AssertionError(f"{source} ended well: {told[-1]}")

    await asyncio.gather(*(run(source) for source in BAD * BAD_EACH))


class Scripts(Ledger[int]):
    """Scripts that write a number, ingest a passage and find it again."""

    secret = ""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, 0)
        self.scope = f"custom:scripts{self.number}"

    def works(self) -> list[Work]:
        """See Ledger."""
        return [self.run]

    async def run(self, stubs: Stubs) -> None:
        """One of them."""
        number = self.known + 1
        request = script_pb2.RunScriptRequest(source=LUA)
        request.named_arguments.update(
            scope=self.scope,
            number=str(number),
            slot=str(number % 20),
            text=f"Passage {number} of client {self.number}: {self.secret}.",
            collection=f"passages{self.number // 2}",
        )
        await self.ask(stubs.scripts.RunScript, request, number)

    async def ask(self, call: Any, request: Any, after: Any = None) -> Any:
        """See Ledger; a script that says why it could not is a refusal too."""
        self.maybe = after
        told = {}
        async for answer in call(request):
            if answer.HasField("result"):
                told = json.loads(answer.result.json)
        if "reason" in told:
            assert told["reason"] in RETRYABLE, f"a script of client {self.number}: {told}"
            raise UnknownError
        assert told == {"number": str(after)}, f"a script of client {self.number}: {told}"
        self.known, self.maybe = after, None
        self.answers += 1

    async def check(self, stubs: Stubs) -> None:
        """See Ledger."""
        found = await listed(stubs, self.metadata, self.scope)
        self.settle(int(json.loads(found.get("last", "0"))), "scripts")


class Workflows(Repeating):
    """Workflows with effects that can be counted, each begun under a request id.

    One whose runtime was killed goes on half a minute later, so nobody waits for this ledger.
    """

    share = 1.0

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts, None)
        self.scope = f"custom:flows{self.number}"
        self.begun: dict[str, bool] = {}
        """All of them, and whether each was answered as done as a whole."""

    def works(self) -> list[Work]:
        """See Ledger."""
        return [self.execute]

    async def execute(self, stubs: Stubs) -> None:
        """One of them, until it has ended."""
        name = f"w{self.number}-{len(self.begun)}"
        self.begun[name] = False
        request = workflow_pb2.ExecuteWorkflowRequest(workflow=self._workflow(name))
        request.wait.FromSeconds(5)
        answer = await self.ask(stubs.workflows.ExecuteWorkflow, request)
        progress = answer.progress
        while not progress.done:
            progress = await self._go_on(stubs, progress.execution_id, request)
        output = progress.workflow
        self.begun[name] = output.status == COMPLETED
        failures = [step.failure for step in output.steps if step.HasField("failure")]
        assert output.success or failures, output
        for failure in failures:
            assert failure.reason in RETRYABLE | {"WORKFLOW_STEP_UNKNOWN"}, failure

    async def _go_on(self, stubs: Stubs, execution_id: str, request: Any) -> Any:
        """News of one that takes longer; where its process has gone it is asked for again."""
        more = execution_pb2.ContinueExecutionRequest(execution_id=execution_id)
        more.wait.FromSeconds(5)
        try:
            return (await answered(stubs.executions.ContinueExecution(more))).progress
        except (UnknownError, grpc.aio.AioRpcError) as error:
            lost = isinstance(error, UnknownError) or error.code() is grpc.StatusCode.NOT_FOUND
            assert lost, error  # noqa: PT017
            return (await self.ask(stubs.workflows.ExecuteWorkflow, request)).progress

    def _workflow(self, name: str) -> Any:
        steps = []
        for step in STEPS:
            arguments = {"scope": self.scope, "key": f"{name}{step}", "int_delta": 1}
            call = {"method": "StateService/IncrementState"}
            steps.append({"name": step, "call": call | {"arguments": _plain(arguments)}})
        tree = {"name": name, "sequential": {"steps": steps}}
        return ParseDict(tree, workflow_pb2.Workflow())

    async def check(self, stubs: Stubs) -> None:
        """Each effect of a whole one is there once, and of another at most once."""
        found = await listed(stubs, self.metadata, self.scope)
        assert set(found.values()) <= {"1"}, f"effects of client {self.number}: {found}"
        for name, whole in self.begun.items():
            there = [f"{name}{step}" in found for step in STEPS]
            assert all(there) or not whole, f"{name} misses effects: {there}"


def _plain(tree: dict[str, Any]) -> dict[str, Any]:
    """A MapValue's fields, for ParseDict."""
    kinds = {int: "int_value", str: "string_value"}
    return {"fields": {key: {kinds[type(each)]: each} for key, each in tree.items()}}
