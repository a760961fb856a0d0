"""What steps do: each is a call of its caller's, through the host's hooks and bridge."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from blake3 import blake3
from llmspell.v1 import agent_pb2, execution_pb2

from services.common.access import METHODS
from services.common.clock import Clock, SystemClock
from services.common.errors import Reason, ServiceError
from services.common.values import fill_map
from services.runtime import marshal
from services.runtime.agents.memo import NO_MEMO, Memo
from services.runtime.bridge import error_from
from services.runtime.claims import Claim, Memory
from services.runtime.execution import FUNCTION, TOOL, Caller, Execution
from services.runtime.hooks.model import refused
from services.runtime.journal import care_of
from services.runtime.money.messages import read_spent
from services.runtime.money.model import (
    NOBODY,
    NOTHING_SPENT,
    Amount,
    Payer,
    Purse,
    Spent,
    to_nano,
)
from services.runtime.runs import Call, Reply
from services.runtime.workflows.interpolate import plain
from services.runtime.workflows.memos import KeepsMemos, StepMemo, Surroundings
from services.runtime.workflows.model import (
    AgentAction,
    CallAction,
    Classified,
    FunctionAction,
    TemplateAction,
    ToolAction,
)
from services.runtime.workflows.scope import Scope
from services.runtime.workflows.stepping import Acted, Order, Repeat
from services.runtime.workflows.tries import step_unknown

PACKAGE = "llmspell.v1."
EXECUTE_TOOL = f"{PACKAGE}ToolService/ExecuteTool"
EXECUTE_TEMPLATE = f"{PACKAGE}TemplateService/ExecuteTemplate"
STAGE = f"{PACKAGE}WorkflowStep/Run"
"""A step on its way through the hooks; no method of the contract."""
_TOOL_SECONDS_MAX = 300.0
_TEMPLATE_SECONDS_MAX = 300.0


class AsksAgents(Protocol):
    """Has an agent answer; `agents.agents.Agents` does."""

    async def run(
        self,
        ref: agent_pb2.AgentRef,
        given: agent_pb2.AgentInput,
        caller: Caller,
        execution: Execution,
        *,
        path: str = "",
        depth: int = 0,
        payer: Payer = NOBODY,
        memo: Memo = NO_MEMO,
    ) -> execution_pb2.AgentOutput:
        """The answer of an agent."""


class KnowsMemory(Protocol):
    """Knows what is known of tools' executions; `handling.Handling` does."""

    def memory_of(self, call: Call) -> Memory:
        """Who knows of a call of a tool that was made by a process now lost."""


class NamesReceipts(Protocol):
    """Names receipts of this machine; `tools.receipts.Receipts` does."""

    def new_name(self) -> str:
        """For an execution that is new; empty where none can be kept."""

    def forget(self, tenant: str, names: Iterable[str]) -> None:
        """What came of these is kept elsewhere."""


_REPEATS = {
    Memory.RECEIPT: Repeat.BY_RECEIPT,
    Memory.REQUEST_IDS: Repeat.BY_ID,
    Memory.NONE: Repeat.NEVER,
}


class HostActions:
    """The steps of one execution."""

    def __init__(
        self,
        caller: Caller,
        execution: Execution,
        agents: AsksAgents | None,
        memory: KnowsMemory,
        *,
        receipts: NamesReceipts | None = None,
        journal: KeepsMemos | None = None,
        clock: Clock | None = None,
        is_left: Callable[[], bool] = lambda: False,
        max_cost_usd: float = 0.0,
    ) -> None:
        """Do steps for a caller.

        Args:
            caller: For whom; calls are made as its own.
            execution: Which; its caller is asked for functions.
            agents: Has agents answer; None: there are none here.
            memory: Knows who remembers executions of tools.
            receipts: Names them; None: there are none here.
            journal: Keeps what agents have done; None: nobody does.
            clock: Says when.
            is_left: Whether what goes on when this process ends it will be asked for again.
            max_cost_usd: That all agents together may spend; 0: no limit.
        """
        self._purse = Purse.of_usd("workflow", max_cost_usd) if max_cost_usd else None
        self._caller = caller
        self._execution = execution
        self._agents = agents
        self._memory = memory
        self._receipts = receipts
        self._journal = journal
        self._clock = clock or SystemClock()
        self._is_left = is_left

    def repeat(self, order: Order) -> Repeat:
        """What it means to do it again."""
        match order.step.action:
            case ToolAction():
                return self._repeat_of_tool(order)
            case AgentAction() | FunctionAction():  # a caller knows what it has done
                return Repeat.ALWAYS
            case CallAction(method):
                return _repeat_of(method)
        return Repeat.NEVER

    def _repeat_of_tool(self, order: Order) -> Repeat:
        memory = self._memory.memory_of(_tool_call(order, ""))
        if memory is Memory.NEEDLESS:
            return Repeat.HARMLESS
        # One that the caller executes is known to nobody here.
        return Repeat.NEVER if self._caller.executes_tools else _REPEATS[memory]

    def new_receipt(self, order: Order) -> str:
        """For something new that leaves one, or an agent, by which its memo is known."""
        if isinstance(order.step.action, AgentAction):
            return f"agent.{secrets.token_hex(8)}"
        return self._name_receipt()

    def _name_receipt(self) -> str:
        return self._receipts.new_name() if self._receipts is not None else ""

    async def act(self, order: Order) -> Acted:
        """Do it, through the hooks.

        Raises:
            ServiceError: where it failed, or a hook has stopped it.
        """
        stage = _Stage(self, order)
        reply = await self._caller.call.around(Call(STAGE, None, stage.told()), stage.inner)
        return stage.acted_of(reply)

    async def do(self, order: Order) -> Acted:
        """Do it, behind the hooks."""
        match order.step.action:
            case ToolAction(tool):
                return await self._tool(tool, order)
            case AgentAction(agent):
                return await self._agent(agent, order)
            case FunctionAction(function):
                return await self._function(function, order)
            case CallAction(method):
                return await self._call(method, order)
            case TemplateAction():
                return await self._template(order)
        raise ServiceError(Reason.WORKFLOW_INVALID, f"{order.path} says not what to do.")

    async def classify(self, condition: Classified, text: str, path: str) -> Acted:
        """Ask an agent what it takes a text for.

        Raises:
            ServiceError: PROVIDER_ANSWER_INVALID where it names none of the categories.
        """
        listed = ", ".join(condition.categories)
        question = (
            f"Classify the text below. Answer with exactly one of these categories and nothing "
            f"else: {listed}.\n\nText:\n{text}"
        )
        output = await self._ask_agent(condition.agent, question, {}, path, self._payer(0.0))
        found = _category(output.text, condition.categories)
        return Acted(found == condition.expected, read_spent(output.spent))

    async def ask(self, function: str, scope: Scope, path: str) -> Acted:
        """Ask a function of the caller, which is given shared data and the steps' outputs."""
        given = {"shared": plain(scope.shared), "steps": plain(scope.root("steps"))}
        return Acted(await self._execution.ask(FUNCTION, function, given, path))

    # Each kind

    async def _tool(self, tool: str, order: Order) -> Acted:
        if self._caller.executes_tools:
            told = await self._execution.ask(TOOL, tool, order.arguments, order.path)
            is_answer = isinstance(told, dict) and "success" in told
            output = _tool_output(tool, told) if is_answer else told
        else:
            call = _tool_call(order, self._caller.session_id)
            call = replace(call, claim=self._claim(order))
            output = _tool_output(tool, await self._answer(call))
        return Acted(output, Spent(tool_calls=1))

    def _claim(self, order: Order) -> Claim:
        return Claim(
            unknown=step_unknown(order.path),
            request_id=self.request_id(order.path),
            receipt=order.receipt,
            begun_ns=order.begun_ns,
            may_repeat=order.step.may_repeat,
            is_left=self._is_left,
        )

    async def _agent(self, ref: Any, order: Order) -> Acted:
        given = order.arguments
        try:
            output = await self._ask_agent(
                ref,
                str(given["input"]),
                given["parameters"],
                order.path,
                self._payer(order.cost_left_usd, order.purses),
                memo=self._memo(order),
            )
        finally:
            if self._journal is not None:
                self._journal.forget_memos(_memo_path(order))
        text = marshal.read(output.json) if output.HasField("json") else output.text
        return Acted(text, read_spent(output.spent))

    def _memo(self, order: Order) -> Memo:
        """What the agent of a step has done in this try of it."""
        if self._journal is None or not order.receipt:
            return NO_MEMO
        around = Surroundings(
            journal=self._journal,
            clock=self._clock,
            memory_of=self._memory.memory_of,
            new_receipt=self._name_receipt,
            request_id=self.request_id,
            is_left=self._is_left,
            step=order.path,
            may_repeat=order.step.may_repeat,
        )
        return StepMemo(around, _memo_path(order))

    async def _ask_agent(
        self,
        ref: Any,
        text: str,
        parameters: Mapping[str, Any],
        path: str,
        payer: Payer,
        *,
        memo: Memo = NO_MEMO,
    ) -> execution_pb2.AgentOutput:
        if self._agents is None:
            raise ServiceError(Reason.NOT_IMPLEMENTED, "This deployment has no agents.")
        given = agent_pb2.AgentInput(text=text)
        fill_map(given.parameters.fields, parameters)
        return await self._agents.run(
            ref,
            given,
            self._caller,
            self._execution,
            path=path,
            payer=payer,
            memo=memo,
        )

    def _payer(self, cost_left_usd: float, purses: tuple[Purse, ...] = ()) -> Payer:
        """The run; all agents that go on at once draw from one purse."""
        run_id = self._caller.run_id or self._execution.execution_id
        purse = self._purse
        if purse is None:
            return Payer(purses=purses, run_id=run_id)
        if cost_left_usd:  # what was spent before its process was lost, or by other than models
            spent_nano = purse.limit_nano - to_nano(cost_left_usd)
            purse.spent = purse.spent.at_least(Amount(spent_nano))
        return Payer(purses=(purse, *purses), run_id=run_id)

    async def _function(self, function: str, order: Order) -> Acted:
        told = await self._execution.ask(FUNCTION, function, order.arguments, order.path)
        if isinstance(told, dict) and isinstance(told.get("shared_data"), dict):
            rest = {key: value for key, value in told.items() if key != "shared_data"}
            output = rest["output"] if set(rest) == {"output"} else rest or None
            return Acted(output, shared=told["shared_data"])
        return Acted(told)

    async def _call(self, method: str, order: Order) -> Acted:
        known = METHODS.get(f"/{PACKAGE}{method}")
        arguments = dict(order.arguments)
        if known is not None and "request_id" in known.descriptor.input_type.fields_by_name:
            arguments.setdefault("request_id", self.request_id(order.path))
        return Acted(await self._answer(Call(PACKAGE + method, None, arguments)))

    async def _template(self, order: Order) -> Acted:
        assert isinstance(order.step.action, TemplateAction)
        arguments: dict[str, Any] = {
            "id": order.step.action.template_id,
            "parameters": dict(order.arguments),
            "timeout": min(order.timeout_s, _TEMPLATE_SECONDS_MAX),
        }
        if self._caller.session_id:
            arguments["session_id"] = self._caller.session_id
        told = await self._answer(Call(EXECUTE_TEMPLATE, None, arguments))
        spent = execution_pb2.Spent()
        marshal.fill(spent, told.get("spent", {}))
        return Acted(told.get("result"), read_spent(spent))

    def request_id(self, path: str) -> str:
        """The same for a step however often and wherever it is tried."""
        told = f"{self._execution.execution_id}\0{path}".encode()
        return f"wf_{blake3(told).hexdigest(length=24)}"

    async def _answer(self, call: Call) -> Any:
        reply = await self._caller.call(call)
        if not reply.ok:
            raise error_from(reply.tree)
        return reply.tree


class _Stage:
    """One step on its way through the hooks."""

    def __init__(self, actions: HostActions, order: Order) -> None:
        self._actions = actions
        self._order = order
        self._acted: Acted | None = None
        self._error: ServiceError | None = None
        self._tree: object = None

    def told(self) -> dict[str, Any]:
        """What hooks before it are told, and may change the arguments of."""
        return {
            "workflow": self._order.workflow,
            "step": self._order.step.name,
            "kind": self._order.step.kind,
            "path": self._order.path,
            "arguments": dict(self._order.arguments),
        }

    async def inner(self, call: Call) -> Reply:
        """The step itself, as the hooks have left it."""
        arguments = call.args.get("arguments")
        order = self._order
        if isinstance(arguments, dict):
            order = replace(order, arguments=arguments)
        try:
            self._acted = await self._actions.do(order)
        except ServiceError as error:
            self._error, reply = error, refused(error)
        else:
            reply = Reply(ok=True, tree={"output": self._acted.output})
        self._tree = reply.tree
        return reply

    def acted_of(self, reply: Reply) -> Acted:
        """What came of it, as the hooks after it have left it."""
        as_it_was = reply.tree is self._tree
        if not reply.ok:
            raise self._error if as_it_was and self._error else error_from(reply.tree)
        if as_it_was and self._acted is not None:
            return self._acted
        tree: Any = reply.tree
        output = tree["output"] if isinstance(tree, dict) and "output" in tree else tree
        acted = self._acted
        spent = acted.spent if acted is not None else NOTHING_SPENT
        return Acted(output, spent, acted.shared if acted is not None else {})


def _repeat_of(method: str) -> Repeat:
    """What it means to call a method again."""
    care = care_of(PACKAGE + method)
    if not care.writes:
        return Repeat.HARMLESS
    if care.once:
        return Repeat.BY_ID
    return Repeat.ALWAYS if care.repeatable else Repeat.NEVER


def _memo_path(order: Order) -> str:
    """Of no step: a name of one has no `!`."""
    return f"{order.path}!{order.receipt}"


def _tool_call(order: Order, session_id: str) -> Call:
    assert isinstance(order.step.action, ToolAction)
    arguments: dict[str, Any] = {
        "name": order.step.action.tool,
        "arguments": dict(order.arguments),
    }
    if order.step.timeout_s is not None:
        arguments["timeout"] = min(order.timeout_s, _TOOL_SECONDS_MAX)
    if session_id:
        arguments["session_id"] = session_id
    return Call(EXECUTE_TOOL, None, arguments)


def _tool_output(tool: str, told: Any) -> Any:
    """The result in a tool's answer; its message where it has none.

    Raises:
        ServiceError: TOOL_FAILED where it did not succeed.
    """
    if told.get("success"):
        result = told.get("result")
        return told.get("message") if result is None else result
    failure = told.get("failure") or {}
    message = str(failure.get("message") or told.get("message") or "It failed.")
    raise ServiceError(Reason.TOOL_FAILED, message, tool=tool, code=str(failure.get("code") or ""))


def _category(text: str, categories: Any) -> str:
    """The category that an answer names; the whole answer counts before a word in it."""
    said = text.strip().strip(".\"'`*").casefold()
    for category in categories:
        if category.casefold() == said:
            return str(category)
    named = [category for category in categories if category.casefold() in text.casefold()]
    if len(named) == 1:
        return str(named[0])
    raise ServiceError(
        Reason.PROVIDER_ANSWER_INVALID,
        f"The agent was asked for one of {', '.join(categories)} and said {text[:200]!r}.",
    )
