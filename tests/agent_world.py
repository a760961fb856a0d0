"""Agents without processes: models and tools that are functions, a state in memory.

What is fake lies outside of the agents: the way to models, the tools' bodies, other processes.
"""

import asyncio
import json

from llmspell.v1 import agent_pb2

from services.common.clock import SystemClock
from services.common.context import CallContext
from services.common.errors import Reason, ServiceError
from services.runtime.agents.agents import Agents
from services.runtime.agents.answering import Answering
from services.runtime.agents.conversation import Conversations
from services.runtime.agents.kept import KeptItems
from services.runtime.agents.registered import Registered
from services.runtime.execution import Caller, Execution, Owner
from services.runtime.hooks.model import refused
from services.runtime.money.model import Spent
from services.runtime.providers.model import ChatAnswer, Finish, ToolUse, Usage
from services.runtime.runs import Reply
from services.runtime.tools.entry import Entry
from tests.fakes import FakeState

EXECUTE_TOOL = "llmspell.v1.ToolService/ExecuteTool"


def context(tenant="acme", permissions=("*",)):
    """A caller."""
    return CallContext(tenant=tenant, principal="key", permissions=permissions)


def says(text, finish=Finish.STOP):
    """An answer that is words."""
    return ChatAnswer(text=text, finish=finish)


def calls(*uses, text=""):
    """An answer that asks for tools: (name, arguments) each."""
    made = [
        ToolUse(call_id=f"id{number}", name=name, arguments=_text(arguments))
        for number, (name, arguments) in enumerate(uses)
    ]
    return ChatAnswer(text=text, tool_uses=made, finish=Finish.TOOL_CALLS)


def _text(arguments):
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


class Model:
    """Answers requests with a list of answers, or with a function of the request."""

    def __init__(self, *answers, cost_usd=0.001):
        self.answers = list(answers)
        self.requests = []
        self.models = []
        self.accounts = []
        self.cost_usd = cost_usd
        self.closed = 0

    async def chat(self, account, model, request, *, hears=None, base_url="", api_key=""):
        """As `money.metered.Metered.chat`."""
        self.requests.append(request)
        self.models.append(model)
        self.accounts.append(account)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            if callable(answer):
                answer = answer(request)
            if asyncio.iscoroutine(answer):
                answer = await answer
        except asyncio.CancelledError:
            self.closed += 1
            raise
        if isinstance(answer, Exception):
            raise answer
        if hears is not None:
            for piece in answer.text.split(" "):
                hears.text(piece)
        usage = Usage(input_tokens=10, output_tokens=5)
        spent = Spent(input_tokens=10, output_tokens=5, cost_usd=self.cost_usd)
        return ChatAnswer(
            text=answer.text, tool_uses=answer.tool_uses, finish=answer.finish, usage=usage
        ), spent


class Tools:
    """A toolbox of functions."""

    def __init__(self):
        self.bodies = {}
        self.levels = {}
        self.made = []

    def add(self, name, body, level="safe", **parameters):
        """A tool whose parameters are all required."""
        schema = {
            "type": "object",
            "properties": parameters,
            "required": list(parameters),
            "additionalProperties": False,
        }
        told = {
            "name": name, "description": f"The tool {name}.", "category": "test", "level": level,
            "parameters": schema, "result": {}, "old_names": [], "synonyms": {}, "needs": [],
            "limits": {}, "version": "1", "notes": "", "unavailable": "",
        }  # fmt: skip
        self.bodies[name] = (Entry.of(told), body)

    async def entries(self):
        """As `Toolbox.entries`."""
        return {name: entry for name, (entry, _) in self.bodies.items()}

    async def find(self, name):
        """As `Toolbox.find`."""
        if name not in self.bodies:
            raise ServiceError(Reason.TOOL_NOT_FOUND, f"Tool {name!r} not found.", tool=name)
        return self.bodies[name][0]

    async def execute(self, args):
        """What a call of ExecuteTool is answered."""
        self.made.append((args["name"], args["arguments"]))
        result = self.bodies[args["name"]][1](**args["arguments"])
        if asyncio.iscoroutine(result):
            result = await result
        return {"success": True, "result": result, "message": ""}


class Calls:
    """Answers the calls of a caller; hooks around agents are functions of (call, inner)."""

    def __init__(self, tools):
        self.tools = tools
        self.made = []
        self.others = {}
        self.hook = None
        self.passed = []

    async def __call__(self, call):
        """As `hooks.chain.Hooked`."""
        self.made.append(call)
        try:
            if call.method == EXECUTE_TOOL:
                return Reply(ok=True, tree=await self.tools.execute(call.args))
            return Reply(ok=True, tree=self.others[call.method](call.args))
        except ServiceError as error:
            return refused(error)

    async def around(self, call, inner):
        """Likewise."""
        self.passed.append(call.args["path"])
        return await (self.hook(call, inner) if self.hook else inner(call))


class World:
    """All that agents need."""

    def __init__(self, *answers, window=0, cost_usd=0.001):
        self.model = Model(*answers, cost_usd=cost_usd)
        self.tools = Tools()
        self.calls = Calls(self.tools)
        self.state = FakeState()
        items = KeptItems(self.state, self)
        self.registered, self.conversations = Registered(items), Conversations(items)
        self.window, self.gone = window, set()
        answering = Answering(
            self.model,
            self.tools,
            self.conversations,
            window_of=self._window_of,
            clock=SystemClock(),
        )
        self.agents = Agents(self.registered, answering)
        self.execution = Execution("exec_1", Owner("acme", "key"))
        self.execution.keeps_events = True

    async def get(self, tenant):
        """As `Tenants.get`: all are there but those that have gone."""
        return None if tenant in self.gone else tenant

    async def _window_of(self, model):
        del model
        return self.window

    async def ask(self, agent=None, text="hello", *, tenant="acme", permissions=("*",), **more):
        """Have an agent answer; `agent`: a spec's fields, or the name of a registered one."""
        session_id = more.pop("session_id", "")
        executes_tools = more.pop("executes_tools", False)
        caller = Caller(context(tenant, permissions), session_id, "", self.calls, executes_tools)
        given = agent_pb2.AgentInput(text=text, **more.pop("input", {}))
        return await self.agents.run(ref(agent), given, caller, self.execution, **more)

    def events(self):
        """What was told until now."""
        return self.execution._take_events()

    @property
    def last(self):
        """The last request of the model."""
        return self.model.requests[-1]


def spec(**fields):
    """An agent."""
    known = {"name": "clerk", "model": "scripted/m"} | fields
    return agent_pb2.AgentSpec(**known)


def ref(agent):
    """A reference to one: a name, fields of a spec, or nothing special."""
    if isinstance(agent, str):
        return agent_pb2.AgentRef(name=agent)
    if isinstance(agent, agent_pb2.AgentSpec):
        return agent_pb2.AgentRef(spec=agent)
    return agent_pb2.AgentRef(spec=spec(**(agent or {})))
