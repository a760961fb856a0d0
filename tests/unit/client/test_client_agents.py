"""What the client asks of agents, how it does its part of one, and how it reads answers."""

# ruff: noqa: N802  (methods are named as in the contract)

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from llmspell import AsyncClient, Client, InvalidArgument, NotFound
from llmspell._agent_forms import describe
from llmspell.types import (
    AgentAsTool,
    AgentLimits,
    AgentOutput,
    AgentSpec,
    Composite,
    ExecutionEvent,
    Media,
    OfferedFunction,
    VectorMemory,
)
from llmspell.v1 import agent_pb2 as pb
from llmspell.v1 import agent_pb2_grpc, execution_pb2, execution_pb2_grpc

from tests.fake_deployment import KEY, Deployment, refuse

SPENT = execution_pb2.Spent(input_tokens=9, output_tokens=3, cost_usd=0.25, model_calls=2)


class Servicer(agent_pb2_grpc.AgentServiceServicer, execution_pb2_grpc.ExecutionServiceServicer):
    """Wants every offered function once, with `{"n": NUMBER}`, then says how many results came."""

    def __init__(self):
        self.deployment = Deployment()
        self.agents = {}
        self.results = []
        self.callbacks = []

    def _progress(self, results, *, with_events):
        self.results += results
        progress = execution_pb2.ExecutionProgress(execution_id="e1")
        if with_events:
            progress.events.add(number=1, path="a", text="piece ")
        if self.callbacks:
            progress.callbacks.extend(self.callbacks)
            self.callbacks = []
            return progress
        progress.done = True
        output = progress.agent
        output.text = f"{len(self.results)} results"
        output.spent.CopyFrom(SPENT)
        output.elapsed.FromMilliseconds(1500)
        call = output.tool_calls.add(call_id="1", tool="t")
        call.failure.reason = "TOOL_FAILED"
        output.citations.add(number=1, text="c", score=0.5, cited=True)
        output.json.int_value = 5
        return progress

    def _offered(self, request):
        for number, function in enumerate(request.agent.spec.functions, start=1):
            callback = execution_pb2.Callback(
                callback_id=f"c{number}",
                kind=execution_pb2.CALLBACK_KIND_FUNCTION,
                name=function.name,
                path="a",
            )
            callback.arguments.fields["n"].int_value = number
            self.callbacks.append(callback)

    def ExecuteAgent(self, request, context):
        """As the class says."""
        self.deployment.enter(request, context)
        if request.agent.name == "nobody":
            refuse(context, grpc.StatusCode.NOT_FOUND, "AGENT_NOT_FOUND", "There is none.")
        self._offered(request)
        progress = self._progress((), with_events=request.with_events)
        return pb.ExecuteAgentResponse(progress=progress)

    def StreamAgent(self, request, context):
        """In two messages."""
        self.deployment.enter(request, context)
        first = execution_pb2.ExecutionProgress(execution_id="e1")
        first.events.add(number=1, path="a", text="piece ")
        yield pb.StreamAgentResponse(progress=first)
        yield pb.StreamAgentResponse(progress=self._progress((), with_events=False))

    def ContinueExecution(self, request, context):
        """Takes the results."""
        self.deployment.enter(request, context)
        progress = self._progress(request.results, with_events=request.with_events)
        return execution_pb2.ContinueExecutionResponse(progress=progress)

    def CancelExecution(self, request, context):
        """It is counted."""
        self.deployment.enter(request, context)
        return execution_pb2.CancelExecutionResponse(cancelled=True)

    def CreateAgent(self, request, context):
        """Keeps it."""
        self.deployment.enter(request, context)
        agent = pb.Agent(spec=request.spec, state=pb.AGENT_STATE_READY, executions=4, spent=SPENT)
        agent.history.add(to=pb.AGENT_STATE_READY, reason="made", **{"from": 2})
        agent.create_time.FromSeconds(5)
        self.agents[request.spec.name] = agent
        return pb.CreateAgentResponse(agent=agent)

    def GetAgent(self, request, context):
        """By name."""
        self.deployment.enter(request, context)
        return pb.GetAgentResponse(agent=self.agents[request.name])

    def ListAgents(self, request, context):
        """One a page."""
        self.deployment.enter(request, context)
        names = sorted(self.agents)
        at = int(request.page_token or 0)
        token = str(at + 1) if at + 1 < len(names) else ""
        page = [self.agents[name] for name in names[at : at + 1]]
        return pb.ListAgentsResponse(agents=page, next_page_token=token)

    def TransitionAgent(self, request, context):
        """Moves it."""
        self.deployment.enter(request, context)
        self.agents[request.name].state = request.to
        return pb.TransitionAgentResponse(agent=self.agents[request.name])

    def DeleteAgent(self, request, context):
        """Drops it."""
        self.deployment.enter(request, context)
        gone = self.agents.pop(request.name, None)
        return pb.DeleteAgentResponse(deleted=gone is not None)

    def GetConversation(self, request, context):
        """Two messages."""
        self.deployment.enter(request, context)
        kept = pb.GetConversationResponse(trimmed_count=7)
        kept.messages.add(role="user", text=request.conversation_id)
        kept.messages.add(role="assistant", text="b").tool_calls.add(tool="t")
        return kept

    def DeleteConversation(self, request, context):
        """Done."""
        self.deployment.enter(request, context)
        return pb.DeleteConversationResponse(deleted=True)


@pytest.fixture
def servicer():
    """What serves."""
    return Servicer()


@pytest.fixture
def address(servicer):
    """Where it serves."""
    with ThreadPoolExecutor(max_workers=4) as workers:
        server = grpc.server(workers, options=(("grpc.so_reuseport", 0),))
        agent_pb2_grpc.add_AgentServiceServicer_to_server(servicer, server)
        execution_pb2_grpc.add_ExecutionServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@pytest.fixture
def client(address):
    """Of the tenant acme."""
    with Client(address, KEY) as connected:
        yield connected


def last(servicer, kind):
    """The last request of a kind."""
    return [each for each in servicer.deployment.requests if isinstance(each, kind)][-1]


def test_an_answer_is_read_whole(client):
    """Text, money, time, calls that failed, citations, JSON."""
    output = client.execute_agent("clerk", "hello")
    assert (output.text, str(output), output.json) == ("0 results", "0 results", 5)
    assert (output.spent.cost_usd, output.spent.input_tokens, output.elapsed_s) == (0.25, 9, 1.5)
    assert output.tool_calls[0].failure.reason == "TOOL_FAILED"
    assert output.citations[0].cited
    with pytest.raises(NotFound, match="There is none"):
        client.execute_agent("nobody", "hello")


def test_everything_that_is_said_of_an_agent_is_sent_and_read(client, servicer):
    """A spec comes back as it was given, agents within agents included."""
    inner = AgentSpec(name="in", type="basic")
    spec = AgentSpec(
        name="a",
        model="scripted/m",
        description="d",
        type="llm",
        system_prompt="s",
        temperature=0.0,
        top_p=0.5,
        seed=0,
        stop=("x",),
        tools=("calculator",),
        functions=(OfferedFunction(name="f", description="d", parameters={"type": "object"}),),
        agents=(AgentAsTool(agent=inner, tool_name="t", description="d"),),
        tool_choice="required",
        limits=AgentLimits(max_turns=2, max_tool_calls=3, timeout_s=1.5, max_cost_usd=0.5),
        max_conversation_length=4,
        max_conversation_tokens=5,
        answer_schema={"type": "object"},
        memory=VectorMemory(collection="c", limit=3, read_only=True),
        base_url="http://x",
        composite=Composite(strategy="vote", agents=(inner, "other"), threshold=0.5, fallback="f"),
        custom={"k": 1},
    )
    made = client.create_agent(spec, replace=True)
    assert made.spec == spec
    assert (made.state, made.executions, made.spent.cost_usd) == ("ready", 4, 0.25)
    assert (made.history[0].start, made.history[0].end) == ("initializing", "ready")
    request = last(servicer, pb.CreateAgentRequest)
    assert request.replace
    assert request.request_id
    assert request.spec.HasField("seed")


def test_agents_are_kept_listed_moved_and_removed(client):
    """By name, page by page."""
    for name in ("b", "a", "c"):
        client.create_agent(AgentSpec(name=name, model="m"))
    assert [agent.name for agent in client.list_agents()] == ["a", "b", "c"]
    assert client.transition_agent("a", "paused", reason="r").state == "paused"
    assert client.get_agent("a").state == "paused"
    assert (client.delete_agent("a"), client.delete_agent("a")) == (True, False)
    with pytest.raises(InvalidArgument, match="must be one of uninitialized"):
        client.transition_agent("b", "asleep")


def test_conversations_are_read_and_erased(client):
    """Messages with their calls, and how many went."""
    kept = client.get_conversation("a", conversation_id="talk", limit=2)
    assert [(each.role, each.text) for each in kept.messages] == [
        ("user", "talk"),
        ("assistant", "b"),
    ]
    assert (kept.messages[1].tool_calls[0].tool, kept.trimmed_count) == ("t", 7)
    assert client.delete_conversation("a", session_id="s")


def add(n: int, more: list[str] | None = None) -> int:
    """Adds one.

    And no more.
    """
    assert more is None
    return n + 1


def fail(n: int) -> None:
    """Fails."""
    raise ValueError("no luck")


def test_functions_are_described_called_and_answered(client, servicer):
    """By signature; what they give and what they raise goes back under the callback's id."""
    spec = AgentSpec(name="a", model="m")
    output = client.execute_agent(spec, "go", functions={"add": add, "fail": fail})
    assert output.text == "2 results"
    offered = last(servicer, pb.ExecuteAgentRequest).agent.spec.functions
    assert [(each.name, each.description) for each in offered] == [
        ("add", "Adds one."),
        ("fail", "Fails."),
    ]
    done, failed = servicer.results
    assert (done.callback_id, done.value.int_value) == ("c1", 2)
    assert (failed.callback_id, failed.failure.message) == ("c2", "ValueError: no luck")


def test_a_signature_is_a_schema():
    """Kinds of arguments, which are needed, and what cannot be called by name."""

    def look(where: str, near: float = 1.0, *, tags: list[int], **rest: str) -> None:
        """Looks."""

    schema = describe("look", look).parameters
    assert schema["required"] == ["where", "tags"]
    assert schema["properties"] == {
        "where": {"type": "string"},
        "near": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "integer"}},
    }
    with pytest.raises(InvalidArgument, match="by name"):
        describe("each", lambda *values: values)


def test_a_function_that_is_missing_or_gives_what_cannot_travel_is_a_failure(client, servicer):
    """The agent is told; it does not hang."""
    spec = AgentSpec(name="a", model="m", functions=(OfferedFunction(name="absent"),))
    client.execute_agent(spec, "go", functions={"odd": lambda n: object()})
    assert ["absent" in each.failure.message for each in servicer.results] == [True, False]
    assert "must be null, bool" in servicer.results[1].failure.message


def test_events_come_as_they_happen_and_the_output_last(client):
    """From the stream, and where functions are offered from the news."""
    spec = AgentSpec(name="a", model="m")
    for functions in (None, {"add": add}):
        *events, output = client.stream_agent(spec, "go", functions=functions)
        assert isinstance(output, AgentOutput)
        assert all(isinstance(event, ExecutionEvent) for event in events)
        assert events[0].kind == "text"
        assert events[0].text == "piece "
    heard = []
    client.execute_agent(spec, "go", on_event=heard.append)
    assert [event.text for event in heard] == ["piece "]


def test_who_is_interrupted_ends_the_execution(client, servicer):
    """What is no mere failure of a function leaves nothing behind."""

    def interrupted(n: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.execute_agent(AgentSpec(name="a", model="m"), "go", functions={"f": interrupted})
    assert servicer.deployment.calls["CancelExecution"] == 1


def test_functions_that_are_wanted_at_once_run_at_once(client):
    """Each waits for the other."""
    met = threading.Barrier(2, timeout=5)

    def meet(n: int) -> int:
        return met.wait() * 0 + n

    client.execute_agent(AgentSpec(name="a", model="m"), "go", functions={"x": meet, "y": meet})


def test_input_beside_the_text_is_sent(client, servicer):
    """Parameters, images, context, places, limits."""
    client.execute_agent(
        "clerk",
        "see",
        parameters={"n": 1},
        media=[Media("image/png", b"\x89")],
        session_id="s",
        conversation_id="c",
        context={"who": "Ann"},
        limits=AgentLimits(max_cost_usd=0.1, timeout_s=2),
        executes_tools=True,
    )
    request = last(servicer, pb.ExecuteAgentRequest)
    assert request.input.parameters.fields["n"].int_value == 1
    assert (request.input.media[0].mime_type, request.input.media[0].data) == ("image/png", b"\x89")
    assert (request.session_id, request.conversation_id) == ("s", "c")
    assert request.context.fields["who"].string_value == "Ann"
    assert (request.limits.max_cost_usd, request.limits.timeout.seconds) == (0.1, 2)
    assert request.caller_executes_tools


async def test_the_asyncio_client_awaits_functions_that_are_coroutines(address, servicer):
    """At once, plain ones beside them; streams likewise."""
    met = asyncio.Event()

    async def wait(n: int) -> str:
        await asyncio.wait_for(met.wait(), 5)
        return "met"

    async def meet(n: int) -> None:
        met.set()

    spec = AgentSpec(name="a", model="m")
    async with AsyncClient(address, KEY) as client:
        functions = {"wait": wait, "meet": meet, "add": add}
        output = await client.execute_agent(spec, "go", functions=functions)
        assert output.text == "3 results"
        assert servicer.results[0].value.string_value == "met"
        assert servicer.results[2].value.int_value == 4
        heard = [each async for each in client.stream_agent(spec, "go")]
        assert [type(each) for each in heard] == [ExecutionEvent, AgentOutput]
        await client.create_agent(spec)
        assert [each.name async for each in client.list_agents()] == ["a"]
        assert (await client.get_agent("a")).state == "ready"
        assert (await client.transition_agent("a", "paused")).state == "paused"
        assert await client.delete_agent("a")
        assert (await client.get_conversation("a")).trimmed_count == 7
        assert await client.delete_conversation("a")
