"""What `Agent` asks of the host, and what it makes of the answers.

The host here says what a test tells it to.
"""

from collections import deque

import pytest
import pytest_asyncio

from services.common.context import CallContext
from services.runtime.facts import facts_of
from services.runtime.hooks.hosting import Hosting
from services.runtime.hooks.model import RunInfo
from services.runtime.pool import WorkerPool
from services.runtime.runs import Reply, RunLimits
from tests.unit.runtime.running import Host, failure, run

CALLER = CallContext(tenant="acme", principal="k1", permissions=("agent.execute",))
SPENT = {
    "input_tokens": 10,
    "output_tokens": 5,
    "cost_usd": 0.25,
    "model_calls": 1,
    "tool_calls": 0,
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool():
    async with WorkerPool() as made:
        yield made


def said(text, **more):
    """The end of an execution."""
    agent = {"text": text, "spent": SPENT, "model": "scripted/m", "elapsed": 0.5, **more}
    return {"execution_id": "e1", "done": True, "callbacks": [], "events": [], "agent": agent}


def wants(*callbacks, events=()):
    """An execution that waits for its caller."""
    return {"execution_id": "e1", "done": False, "callbacks": callbacks, "events": events}


def function(name, arguments, *, number=1, path="a", kind="FUNCTION"):
    """Something that it waits for."""
    told = {"callback_id": f"c{number}", "kind": kind, "name": name, "path": path}
    return told | {"arguments": arguments}


class Agents(Host):
    """Gives each call of an execution the next answer of its list."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = deque(answers)

    def asked(self, method):
        """Arguments of the calls of a method."""
        return [call.args for call in self.calls if call.method.endswith(f"/{method}")]

    def _next(self):
        answer = self.answers.popleft()
        return answer if isinstance(answer, Reply) else Reply(ok=True, tree={"progress": answer})

    def ExecuteAgent(self, tenant, **args):  # noqa: N802
        """The next."""
        return self._next()

    def ContinueExecution(self, tenant, **args):  # noqa: N802
        """The next."""
        return self._next()

    def CancelExecution(self, tenant, **args):  # noqa: N802
        """Done."""
        return Reply(ok=True, tree={"cancelled": True})

    def GetProvider(self, tenant, *, name):  # noqa: N802
        """All but two are there."""
        if name == "absent":
            return failure("PROVIDER_NOT_FOUND")
        told = {"name": name, "enabled": name != "keyless", "disabled_reason": "it has no key"}
        return Reply(ok=True, tree={"provider": told})

    def GetAgent(self, tenant, *, name):  # noqa: N802
        """One is registered."""
        if name != "clerk":
            return failure("AGENT_NOT_FOUND")
        spec = {"name": name, "type": "llm", "model": "scripted/m", "tools": []}
        agent = {"spec": spec, "state": "READY", "history": [], "create_time": 5.0}
        return Reply(ok=True, tree={"agent": agent})

    def GetTool(self, tenant, *, name):  # noqa: N802
        """The script makes all that there are."""
        return failure("TOOL_NOT_FOUND")

    def ListTools(self, tenant, **args):  # noqa: N802
        """Likewise."""
        return Reply(ok=True, tree={"tools": [], "next_page_token": ""})

    def ExecuteTool(self, tenant, *, name, arguments, **args):  # noqa: N802
        """Whatever it is, it is done."""
        tree = {"success": True, "result": {"got": arguments}, "operation": "", "message": ""}
        return Reply(ok=True, tree=tree | {"metadata": {}, "elapsed": 0.0})


async def ran(pool, source, *answers):
    """A script's value, and the host that it asked."""
    host = Agents(*answers)
    facts = facts_of(CALLER, RunLimits()) | {"run_id": "run_7"}
    async with Hosting.of_none().run(host, RunInfo(CALLER)) as hooked:
        done = await run(pool, source, hooked, facts=facts)
    assert done.error is None, done.error and (done.error.message, done.error.metadata)
    return done.value, host


BUILD = 'local a = Agent.builder():name("a"):model("scripted/m")'


async def test_what_is_built_is_what_is_sent(pool):
    """Every setting has its field, and the run's conversation is named."""
    source = f"""{BUILD}:description("d"):system_prompt("s"):temperature(0.5):top_p(0.9):seed(7)
      :stop{{"END"}}:max_tokens(50):allow_tool("calculator"):allowed_tools{{"base64-encoder"}}
      :tool_choice("required"):max_execution_time(9):max_tool_calls(3):max_turns(4)
      :max_recursion_depth(2):max_cost_usd(0.5):max_conversation_length(6):base_url("http://x")
      :answer_schema{{type = "object", properties = {{n = {{type = "integer"}}}}}}
      :with_vector_memory{{collection = "c", scope = "user:u", limit = 3, min_score = 0.2}}:build()
      return a:execute{{text = "hi", parameters = {{n = 1}}}}.text"""
    value, host = await ran(pool, source, said("hello"))
    assert value == "hello"
    [request] = host.asked("ExecuteAgent")
    spec = request["agent"]["spec"]
    assert request["input"] == {"text": "hi", "parameters": {"n": 1}, "media": []}
    assert request["conversation_id"] == "run:run_7"
    assert spec["limits"] == {
        "timeout": 9, "max_tool_calls": 3, "max_turns": 4, "max_depth": 2, "max_cost_usd": 0.5,
        "max_tokens": 50,
    }  # fmt: skip
    assert spec["memory"] == {
        "collection": "c", "scope": "user:u", "limit": 3, "min_score": 0.2,
    }  # fmt: skip
    assert spec["answer_schema"] == '{"properties":{"n":{"type":"integer"}},"type":"object"}'
    plain = {"model": "scripted/m", "type": "llm", "name": "a", "description": "d", "seed": 7}
    plain |= {"system_prompt": "s", "temperature": 0.5, "top_p": 0.9, "stop": ["END"]}
    plain |= {"tools": ["calculator", "base64-encoder"], "tool_choice": "required"}
    plain |= {"max_conversation_length": 6, "base_url": "http://x"}
    assert {name: spec[name] for name in plain} == plain


FUNCTIONS = f"""
  {BUILD}
    :tool{{name = "add", description = "adds", parameters = {{a = "number", b = "number"}},
      fn = function(given) return given.a + given.b end}}
    :tool{{name = "fail", fn = function() error("no luck", 0) end}}
    :build()
  local answer = a:execute("2 + 3?")
  return {{answer.text, a:get_metrics().requests_total, a:get_metrics().cost_usd}}
"""


async def test_functions_of_the_script_are_tools(pool):
    """The model's call reaches the function, and what it gives or raises goes back."""
    first = wants(function("add", {"a": 2, "b": 3}), function("fail", {}, number=2))
    value, host = await ran(pool, FUNCTIONS, first, said("5"))
    assert value == ["5", 1, 0.25]
    [request] = host.asked("ExecuteAgent")
    offered = {one["name"]: one for one in request["agent"]["spec"]["functions"]}
    assert offered["add"]["parameters_schema"] == (
        '{"properties":{"a":{"type":"number"},"b":{"type":"number"}},'
        '"required":["a","b"],"type":"object"}'
    )
    [answer] = host.asked("ContinueExecution")
    done, refused = answer["results"]
    assert done == {"callback_id": "c1", "value": 5}
    assert refused["failure"] == {
        "message": "no luck",
        "reason": "TOOL_FAILED",
        "metadata": {},
    }


HOOKED = f"""
  local seen = {{}}
  Hook.register("BeforeToolExecution", function(c) seen[#seen + 1] = c.component_id.name end)
  Hook.register("BeforeAgentExecution", function(c)
    seen[#seen + 1] = "before " .. c.component_id.name
  end)
  Hook.register("AfterAgentExecution", function(c)
    seen[#seen + 1] = c.data.text
    return {{type = "modified", data = {{text = "changed"}}}}
  end)
  {BUILD}:allow_tool("calculator"):build()
  return {{a:execute("x").text, seen}}
"""


async def test_the_script_s_hooks_are_around_agents_and_their_tools(pool):
    """Tools come back to a script that has hooks there, and the whole answer goes to the host."""
    first = wants(function("calculator", {"input": "1"}, kind="TOOL"))
    value, host = await ran(pool, HOOKED, first, said("said"))
    assert value == ["changed", ["before a", "calculator", "said"]]
    assert host.asked("ExecuteAgent")[0]["caller_executes_tools"] is True
    [answer] = host.asked("ContinueExecution")
    assert answer["results"][0]["value"]["result"] == {"got": {"input": "1"}}


STREAMED = f"""
  {BUILD}:build()
  local seen = {{}}
  local done = a:invokeStream("x", function(chunk)
    seen[#seen + 1] = chunk.type .. ":" .. (chunk.tool or chunk.text)
  end)
  return {{seen, done.success, done.chunks_received, done.text, done.output.text}}
"""


async def test_chunks_come_as_they_happen(pool):
    """Text and tools, in order, from each piece of the answer."""
    call = {"call_id": "1", "tool": "calculator", "arguments": {}}
    first = wants(
        events=[{"number": 1, "path": "a", "text": "2"}, {"number": 2, "tool_started": call}]
    )
    last = said("23") | {"events": [{"number": 3, "tool_ended": call}, {"number": 4, "text": "3"}]}
    value, host = await ran(pool, STREAMED, first, last)
    chunks = ["text:2", "tool_started:calculator", "tool_ended:calculator", "text:3"]
    assert value == [chunks, True, 4, "23", "23"]
    assert host.asked("ExecuteAgent")[0]["with_events"] is True
    assert host.asked("ContinueExecution")[0]["with_events"] is True
    assert 0 < host.asked("ContinueExecution")[0]["gather"] < 0.1


async def test_who_breaks_off_ends_the_execution(pool):
    """A callback of a stream that raises: the error is the script's, and nothing goes on."""
    source = f"""{BUILD}:build()
      local ok, e = pcall(a.invokeStream, a, "x", function() error("enough", 0) end)
      return {{ok, e, a:get_state(), a:get_metrics().requests_failed}}"""
    value, host = await ran(pool, source, wants(events=[{"number": 1, "text": "x"}]))
    assert value == [False, "enough", "Ready", 1]
    assert host.asked("CancelExecution") == [{"execution_id": "e1"}]


OUTPUTS = {
    '{"success": true, "n": 1}': {
        "success": True,
        "n": 1,
        "_raw_text": '{"success": true, "n": 1}',
    },
    "[1, 2]": {"data": [1, 2], "text": "[1, 2]"},
    "8": {"data": 8, "text": "8"},
    "plain": {"text": "plain"},
}


@pytest.mark.parametrize(("text", "expected"), OUTPUTS.items())
async def test_what_an_agent_said_is_read(pool, text, expected):
    """JSON with a tool's keys, other JSON, and text; with what it took beside it."""
    source = f"{BUILD}:build() local r = a:execute('x') return r"
    citation = {"number": 1, "text": "t", "cited": True}
    value, _ = await ran(pool, source, said(text, citations=[citation], metadata={"k": 1}))
    assert {name: value[name] for name in expected} == expected
    assert value["cost_usd"] == 0.25
    assert value["citations"] == [citation]
    assert value["metadata"] == {
        "model": "scripted/m", "token_count": 15, "execution_time_ms": 500.0, "k": 1,
    }  # fmt: skip
    assert ("data" in value) == ("data" in expected)


async def test_images_go_in_and_out(pool):
    """As base64 in scripts, as bytes on the wire."""
    source = f"""{BUILD}:build()
      local r = a:execute{{prompt = "see", media = {{{{base64 = "iVBORw0K", format = "png"}}}},
        image = {{base64 = "data:image/gif;base64,R0lGODc="}}}}
      return {{r.media[1].base64, r.media[1].format}}"""
    made = [{"mime_type": "image/webp", "data": b"RIFF1"}]
    value, host = await ran(pool, source, said("ok", media=made))
    assert value == ["UklGRjE=", "webp"]
    [request] = host.asked("ExecuteAgent")
    assert request["input"]["text"] == "see"
    sent = [(one["mime_type"], one["data"]) for one in request["input"]["media"]]
    assert sent == [("image/png", b"\x89PNG\r\n"), ("image/gif", "GIF87")]


REFUSED = {
    "Agent.builder():build()": "FIELD_REQUIRED model",
    'Agent.builder():model("/m"):build()': "FIELD_REQUIRED provider",
    'Agent.builder():model("p/"):build()': "FIELD_REQUIRED model",
    'Agent.builder():model("absent/m"):build()': "PROVIDER_NOT_FOUND nil",
    'Agent.builder():model("keyless/m"):build()': "PROVIDER_KEY_REFUSED nil",
    'Agent.create{name = "b", model = "p/m"}': "AGENT_EXISTS nil",
    'Agent.create{modle = "p/m"}': "FIELD_INVALID agent.modle",
    "Agent.builder():temperature(3)": "FIELD_INVALID temperature",
    'Agent.builder():tool{name = "x"}': "FIELD_REQUIRED tool.fn",
    'b:execute("")': "FIELD_REQUIRED text",
    "b:execute{parameters = {}}": "FIELD_REQUIRED text",
    'b:execute{text = "x", output_modalities = {"audio"}}': "NOT_IMPLEMENTED nil",
    "b:resume()": "AGENT_STATE nil",
    "b:start() b:start()": "AGENT_STATE nil",
    'b:initialize() b:pause() b:execute("x")': "AGENT_STATE nil",
    "b:recover()": "AGENT_STATE nil",
    'b:execute_with_context("x", "context_9")': "FIELD_INVALID context_id",
    'Agent.get_details("nobody")': "AGENT_NOT_FOUND nil",
    'Agent.create_composite("c", {"nobody"}, "parallel")': "AGENT_NOT_FOUND nil",
    'Agent.create_composite("c", {}, "parallel")': "FIELD_REQUIRED agents",
    'Agent.create_composite("c", {"b"}, "dance")': "FIELD_INVALID routing",
    'Agent.register{name = "r", model = "p/m", tools = {{name = "f", fn = print}}}': (
        "FIELD_INVALID agent.tools"
    ),
    'Agent.wrap_as_tool("b") Agent.wrap_as_tool("b")': "FIELD_INVALID tool_name",
}


@pytest.mark.parametrize(("call", "expected"), REFUSED.items())
async def test_what_is_wrong_is_said(pool, call, expected):
    """By its reason, and by the field where there is one."""
    source = f"""local b = Agent.create{{name = "b", model = "p/m"}}
      local ok, e = pcall(function() {call} end)
      if ok then return "nothing was wrong" end
      return e.reason .. " " .. tostring(e.metadata.field)"""
    value, host = await ran(pool, source)
    if expected.startswith("AGENT_STATE"):
        expected = "AGENT_STATE nil"
    assert value.replace("AGENT_STATE nil", "AGENT_STATE nil") == expected
    assert host.asked("ExecuteAgent") == []


async def test_agents_are_tools_and_parts_of_others(pool):
    """A wrapped agent goes out as one, a composite with its members, each with its whole spec."""
    source = f"""{BUILD}:build()
      local tool = Agent.wrap_as_tool("a", {{description = "asks a"}})
      local b = Agent.create{{name = "b", model = "p/m", tools = {{tool}}}}
      local c = Agent.create{{name = "c", type = "basic"}}
      local both = Agent.create_composite("both", {{b, "c", "clerk"}}, {{routing = {{type = "vote",
        threshold = 0.5}}, fallback_agent = c}})
      local called = Tool.execute(tool, {{input = "hi"}})
      both:execute("x")
      local listed = Tool.list()[1].name
      a:destroy()
      return {{tool, called.text, listed, Agent.get_hierarchy("both").root.children[1].name,
        Tool.exists(tool), Agent.list_instances()}}"""
    value, host = await ran(pool, source, said("alone"), said("agreed"))
    assert value == ["a_tool", "alone", "a_tool", "b", False, ["b", "c", "both"]]
    composite = host.asked("ExecuteAgent")[1]["agent"]["spec"]["composite"]
    assert composite["strategy"] == "VOTE"
    assert composite["fallback"]["spec"]["name"] == "c"
    first, second, third = composite["agents"]
    assert third == {"name": "clerk"}
    assert second["spec"]["type"] == "basic"
    [used] = first["spec"]["agents"]
    assert used["tool_name"] == "a_tool"
    assert used["agent"]["spec"]["model"] == "scripted/m"
    assert first["spec"]["tools"] == []


async def test_an_agent_that_leads_to_itself_is_refused(pool):
    """As its own tool, by way of another."""
    source = f"""{BUILD}:allow_tool("b_tool"):build()
      local b = Agent.create{{name = "b", model = "p/m", agents = {{"a"}}}}
      Agent.wrap_as_tool(b)
      local ok, e = pcall(a.execute, a, "x")
      return e.message"""
    value, _ = await ran(pool, source)
    assert value == "agents must not contain itself (a → b → a)."


async def test_a_function_of_each_agent_is_told_by_its_path(pool):
    """Two members with a function of one name: each gets its own."""
    source = """
      local function member(name)
        local function who() return name end
        return Agent.create{name = name, model = "p/m", tools = {{name = "who", fn = who}}}
      end
      local both = Agent.create_composite("both", {member("x"), member("y")}, {
        routing = "routed", router = function(text, names) return names[2] end})
      return both:execute("go").text"""
    first = wants(
        function("who", {}, path="both/x"),
        function("who", {}, number=2, path="both/y"),
        function("route", {"text": "go", "agents": ["x", "y"]}, number=3, path="both"),
    )
    _, host = await ran(pool, source, first, said("y"))
    [answer] = host.asked("ContinueExecution")
    assert [one["value"] for one in answer["results"]] == ["x", "y", "y"]
    spec = host.asked("ExecuteAgent")[0]["agent"]["spec"]
    assert (spec["composite"]["strategy"], spec["composite"]["router_function"]) == (
        "ROUTED",
        "route",
    )


async def test_contexts_keep_their_data_apart_or_not(pool):
    """Isolate, copy, share, inherit; and an agent is told what its context holds."""
    source = f"""{BUILD}:build()
      local data = {{city = "Bern", deep = {{1}}}}
      local top = Agent.create_context{{conversation_id = "talk", data = data}}
      local child = {{}}
      for _, how in ipairs{{"isolate", "copy", "share", "inherit"}} do
        child[how] = Agent.create_child_context(top, "agent:a", how)
      end
      Agent.update_context(top, "city", "Basel")
      Agent.update_context(child.inherit, "own", true)
      local seen = {{}}
      for how, id in pairs(child) do seen[how] = Agent.get_context_data(id, "city") or "none" end
      Agent.update_context(child.share, "city", "Chur")
      seen.top = Agent.get_context_data(top, "city")
      a:execute_with_context("x", child.inherit)
      Agent.remove_context(top)
      return seen"""
    value, host = await ran(pool, source, said("ok"))
    assert value == {
        "isolate": "none", "copy": "Bern", "share": "Basel", "inherit": "Basel", "top": "Chur",
    }  # fmt: skip
    [request] = host.asked("ExecuteAgent")
    assert request["context"] == {"city": "Chur", "deep": [1], "own": True}
    assert request["conversation_id"] == "talk"


LIFE = f"""
  {BUILD}:build()
  a:start() a:pause() a:resume() a:stop() a:set_error("bad")
  local broken = {{a:get_state(), a:get_last_error(), a:is_healthy(), a:get_health().status}}
  a:recover() a:set_state{{n = 1}} a:save_state() a:terminate()
  local moves = {{}}
  for i, move in ipairs(a:get_state_history()) do
    assert(move.elapsed >= 0 and move.timestamp > 0)
    moves[i] = move.from .. ">" .. move.to
  end
  local told = a:get_state_metrics()
  assert(a:load_state() and a:get_state() == "Ready")
  a:delete_state()
  return {{broken, moves, told.total_transitions, told.error_count, a:get_recovery_attempts(),
    a:load_state()}}
"""


async def test_a_life_is_kept_and_told(pool):
    """Every move is in the history, errors and recoveries are counted, and State has it."""
    value, _ = await ran(pool, LIFE)
    broken, moves, count, errors, recoveries, is_kept = value
    assert broken == ["Error", "bad", False, "unhealthy"]
    assert " ".join(moves) == (
        "Uninitialized>Initializing Initializing>Ready Ready>Running Running>Paused Paused>Running "
        "Running>Ready Ready>Error Error>Recovering Recovering>Ready Ready>Terminating "
        "Terminating>Terminated"
    )
    assert (count, errors, recoveries, is_kept) == (11, 1, 1, False)


async def test_counts_and_alerts_are_of_what_happened(pool):
    """Two requests, one of which failed: rates, means, and an alert that tells once."""
    source = f"""{BUILD}:build()
      a:configure_alerts{{{{name = "many", severity = "critical", condition = {{type = "error_rate",
        rate_percent = 40}}}}, {{condition = {{type = "metric_threshold", operator = ">=",
        metric_name = "requests_total", threshold = 2, duration_seconds = 0}}}}}}
      a:execute("x")
      assert(#a:get_alerts() == 0)
      local ok, e = pcall(a.execute, a, "y")
      local alerts = a:get_alerts()
      assert(#a:get_alerts() == 2)
      local p = a:get_performance()
      return {{p.total_executions, p.avg_execution_time_ms, p.success_rate, p.error_rate, e.reason,
        a:get_metrics().cost_usd, a:get_health().status, alerts[1].name, alerts[1].severity}}"""
    lost = failure("BUDGET_EXHAUSTED", "RESOURCE_EXHAUSTED", cost_usd="0.5")
    value, _ = await ran(pool, source, said("ok"), lost)
    assert value == [2, 500.0, 0.5, 0.5, "BUDGET_EXHAUSTED", 0.75, "degraded", "many", "critical"]


async def test_a_registered_agent_is_asked_by_its_name(pool):
    """It is the tenant's: nothing of it is sent but the name."""
    source = """
      local clerk = Agent.get("clerk")
      return {clerk:execute("x").text, clerk:get_state(), Agent.get("nobody") == nil}"""
    value, host = await ran(pool, source, said("done"))
    assert value == ["done", "Ready", True]
    [request] = host.asked("ExecuteAgent")
    assert request["agent"] == {"name": "clerk"}


async def test_a_long_stream_takes_few_calls(pool):
    """Each answer gathers a little longer than the one before, up to a second."""
    pieces = [wants(events=[{"number": n, "path": "a", "text": "x"}]) for n in range(120)]
    value, host = await ran(pool, STREAMED, *pieces, said("x" * 120))
    assert value[2] == 120
    gathered = [asked["gather"] for asked in host.asked("ContinueExecution")]
    assert gathered == sorted(gathered)
    assert gathered[-1] == 1
    assert sum(gathered[:20]) < 1


async def test_hooks_see_agents_come_and_go(pool):
    """One that is built may be changed or refused; one that is destroyed is told of."""
    source = """
      local seen = {}
      Hook.register("BeforeAgentInit", function(context)
        local spec = context.data.spec
        seen[#seen + 1] = "init " .. spec.name
        if spec.name == "bad" then return {type = "cancel", reason = "no"} end
        spec.system_prompt = "Be kind."
        return {type = "modified", data = context.data}
      end)
      Hook.register("AfterAgentShutdown", function(context)
        seen[#seen + 1] = "end " .. context.component_id.name
      end)
      local ok, e = pcall(Agent.create, {name = "bad", model = "p/m"})
      local a = Agent.create{name = "a", model = "p/m"}
      a:destroy()
      return {seen, e.reason, a:get_config().system_prompt, Agent.list_instances()}"""
    value, _ = await ran(pool, source)
    assert value == [["init bad", "init a", "end a"], "HOOK_CANCELLED", "Be kind.", []]
