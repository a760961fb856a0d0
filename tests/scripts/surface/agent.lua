-- Every function of Agent and of its agents, on a real deployment; the model plays what it is given.

local function played(...)
  return "data:application/json," .. JSON.stringify{replies = {...}}
end

local function raises(reason, fn, ...)
  local ok, e = pcall(fn, ...)
  assert(not ok, "nothing was raised")
  assert(type(e) ~= "string" and e.reason == reason, tostring(e))
end

-- building

local calls = played(
  {tools = {
    {name = "calculator", arguments = {input = "6 * 7"}},
    {name = "weather", arguments = {city = "Bern"}},
  }},
  {text = "It rains. {{result}}"}
)
local asked
local a = Agent.builder():name("a"):description("Knows the weather."):model("scripted/inline")
  :base_url(calls):system_prompt("Be brief."):temperature(0.1):max_tokens(100)
  :max_conversation_length(20):allow_tool("calculator"):max_execution_time(20):max_memory_mb(64)
  :max_tool_calls(5):max_recursion_depth(3):type("llm"):custom_config{mood = "calm"}
  :resource_limits{max_tool_calls = 5}
  :tool{name = "weather", description = "The weather of a city.", parameters = {city = "string"},
    fn = function(given) asked = given.city return "rain" end}
  :build()
assert(a.name == "a" and a:get_config().model_id == "inline" and a:get_config().provider == "scripted")
assert(a:get_config().custom.mood == "calm" and a:get_config().api_key == nil)

local echo = Agent.create{name = "echo", type = "basic", description = "Repeats."}
raises("AGENT_EXISTS", Agent.create, {name = "echo", type = "basic"})
raises("FIELD_REQUIRED", function() Agent.builder():build() end)
raises("PROVIDER_NOT_FOUND", function() Agent.create{model = "no-such-provider/m"}:execute("x") end)
local unnamed = Agent.create{type = "basic"}
assert(unnamed.name:find("^agent_%x%x%x%x%x%x%x%x$"))
unnamed:destroy()
assert(Agent.get(unnamed.name) == nil)

local made = Agent.create_from_template("made", "basic", {description = "Made of a template."})
assert(made.type == "basic" and Agent.get("made").name == "made")

-- asking

local answer = a:execute{text = "How is the weather?", parameters = {unit = "C"}}
assert(asked == "Bern", "the function was not called")
assert(answer.text:find("^It rains%. "), answer.text)
assert(#answer.tool_calls == 2 and answer.tool_calls[1].success, JSON.stringify(answer.tool_calls))
assert(answer.metadata.model == "scripted/inline" and answer.metadata.execution_time_ms >= 0)
assert(answer.usage.model_calls == 2 and answer.usage.total_tokens > 0 and answer.cost_usd == 0)
assert(echo:invoke("ping").text:find("ping"))

local structured = Agent.create{name = "structured", model = "scripted/inline",
  base_url = played({text = '{"success": true, "n": 3}'}, {text = "[1, 2]"})}
assert(structured:execute("x").n == 3)
assert(structured:execute("x").data[2] == 2)

local streamed, kinds = {}, {}
local b = Agent.create{name = "b", model = "scripted/inline", base_url = calls,
  tools = {"calculator", {name = "weather", parameters = {city = "string"}, fn = function() return "sun" end}}}
local done = b:invokeStream("x", function(chunk)
  kinds[chunk.type] = (kinds[chunk.type] or 0) + 1
  if chunk.type == "text" then streamed[#streamed + 1] = chunk.text end
end)
assert(done.success and table.concat(streamed) == done.text, table.concat(streamed) .. "|" .. done.text)
assert(kinds.tool_started == 2 and kinds.tool_ended == 2 and done.chunks_received >= 5)
assert(b:stream("x", function() end).success)

-- conversations

local talk = a:get_conversation()
assert(talk[1].role == "user" and talk[1].text:find("How is the weather?", 1, true))
assert(#a:get_conversation(1) == 1 and a:clear_conversation() and #a:get_conversation() == 0)

-- life

assert(a:get_state() == "Ready" and a:get_agent_state() == "Ready")
local mortal = Agent.create{name = "mortal", type = "basic"}
assert(mortal:get_state() == "Uninitialized")
mortal:initialize()
mortal:start() mortal:pause()
raises("AGENT_STATE", mortal.execute, mortal, "x")
mortal:resume() mortal:stop() mortal:set_error("broken")
assert(mortal:get_last_error() == "broken" and not mortal:is_healthy())
mortal:recover()
assert(mortal:get_recovery_attempts() == 1 and mortal:is_healthy())
assert(#mortal:get_state_history() == 9 and mortal:get_state_metrics().total_transitions == 9)
mortal:set_state{mood = "good"}
mortal:save_state()
mortal:terminate()
raises("AGENT_STATE", mortal.start, mortal)
assert(mortal:load_state() and mortal:get_state() == "Ready")
assert(mortal:get_custom_state().mood == "good")
mortal:delete_state()
assert(not mortal:load_state())

-- tools

assert(#a:discover_tools() == 2 and a:has_tool("calculator") and not a:has_tool("base64-encoder"))
assert(a:get_tool_metadata("calculator").version and a:get_tool_metadata("nothing") == nil)
assert(a:get_all_tool_metadata().weather.description == "The weather of a city.")
assert(a:invokeTool("calculator", {input = "1 + 1"}).result)
assert(a:invokeTool("weather", {city = "Chur"}).result == "rain" and asked == "Chur")

local tool = Agent.wrap_as_tool("echo", {tool_name = "repeat_it", category = "agent"})
assert(tool == "repeat_it" and Tool.exists(tool) and Tool.get(tool).category == "agent")
assert(Tool.execute(tool, {input = "again"}).text:find("again"))
local boss = Agent.create{name = "boss", model = "scripted/inline", tools = {tool},
  base_url = played({tools = {{name = tool, arguments = {input = "hello"}}}}, {text = "{{result}}"})}
assert(boss:execute("x").text:find("hello"))

-- memory by meaning, and documents

local noted = Agent.builder():name("noted"):model("scripted/echo"):with_vector_memory{limit = 3}:build()
noted:execute("My dog is called Rex.")
local recalled = noted:execute("What is my dog called?").citations
assert(recalled[1].text:find("Rex") and recalled[1].number == 1 and not recalled[1].cited)
RAG.ingest({id = "manual", text = "The blue lever opens the gate."}, {collection = "manuals"})
local reader = Agent.builder():name("reader"):model("scripted/inline")
  :base_url(played{text = "The blue lever [1]."})
  :use_rag{collection = "manuals", scope = "global", limit = 1}:build()
local cited = reader:execute("Which lever opens the gate?").citations
assert(#cited == 1 and cited[1].cited and cited[1].source_id == "manual")

-- agents within agents: each has its own functions, though of one name, and is counted

local function speaker(name)
  return Agent.create{name = name, model = "scripted/inline",
    base_url = played({tools = {{name = "who", arguments = {}}}}, {text = name .. " says {{result}}"}),
    tools = {{name = "who", fn = function() return name end}}}
end
local first, second = speaker("first"), speaker("second")
local host = Agent.builder():name("host"):model("scripted/inline")
  :base_url(played({tools = {
    {name = "first_tool", arguments = {input = "a"}}, {name = "ask_second", arguments = {input = "b"}},
  }}, {text = "end"}))
  :allow_tool(Agent.wrap_as_tool(first)):agent(second, {tool_name = "ask_second"}):build()
local within = host:execute("x")
assert(within.tool_calls[1].result == "first says first" and within.tool_calls[2].result == "second says second")
assert(within.usage.model_calls == 6 and first:get_metrics().requests_total == 1)
assert(second:get_performance().success_rate == 1)

-- composites

local both = Agent.create_composite("both", {"echo", made}, {routing = "parallel"})
local said = both:execute("in parallel")
assert(said.text:find("in parallel"), said.text)
assert(Agent.create_composite("row", {echo, made}, "sequential"):execute("in a row").text:find("in a row"))
assert(Agent.create_composite("vote", {echo, made}, {routing = {type = "vote", threshold = 0.5}})
  :execute("yes").text:find("yes"))
local routed = Agent.create_composite("routed", {echo, a}, {
  routing = "routed", router = function(text, names) return names[1] end, fallback_agent = made,
})
assert(routed:execute("to echo").text:find("to echo"))

-- telling

assert(#Agent.list() == #Agent.list_instances() and Agent.list()[1].name == "a")
assert(#Agent.discover() == 3 and Agent.discover()[1].type and #Agent.list_templates() == 3)
assert(Agent.get_info("llm").required_parameters[1] == "name")
assert(Agent.list_capabilities().a.capabilities.supports_tools)
local able = Agent.discover_by_capability("supports_tools")
assert(able[1] == "a" and Agent.discover_by_capability("weather")[1] == "a")
assert(Agent.get_hierarchy("routed").root.children[1].name == "echo")
local details = Agent.get_details("a")
assert(details.state == "Ready" and details.metrics.requests_total == 1 and details.config.tools)
assert(Agent.get_details("both").composition.strategy == "parallel")

-- counts, health, alerts, events

local metrics = a:get_metrics()
assert(metrics.requests_total == 1 and metrics.requests_failed == 0 and metrics.tool_invocations == 4)
assert(metrics.memory_bytes > 0 and metrics.cpu_percent >= 0 and metrics.agent_id)
local performance = a:get_performance()
assert(performance.total_executions == 1 and performance.success_rate == 1 and performance.error_rate == 0)
assert(a:get_health().status == "healthy")
assert(a:get_bridge_metrics().active_agents >= 5 and a:get_bridge_metrics().total_tools > 10)
a:configure_alerts{name = "busy", severity = "critical", condition = {
  type = "metric_threshold", metric_name = "requests_total", operator = ">=", threshold = 1,
  duration_seconds = 0}}
assert(a:get_alerts()[1].severity == "critical")
local heard = Event.subscribe("agent.noted")
a:logEvent("noted", "something")
assert(Event.receive(heard).data.message == "something")

-- contexts and shared memory

local top = Agent.create_context{data = {city = "Bern"}, inheritance = "inherit"}
local child = Agent.create_child_context(top, "agent:a", "inherit")
Agent.update_context(child, "street", "Gasse")
assert(Agent.get_context_data(child, "city") == "Bern" and Agent.get_context_data(top, "street") == nil)
assert(echo:execute_with_context("where", child).text:find("where"))
Agent.remove_context(top)
raises("FIELD_INVALID", Agent.get_context_data, top, "city")
Agent.set_shared_memory("global", "topic", {n = 1})
Agent.set_shared_memory({type = "user", id = "ann"}, "topic", "hers")
assert(Agent.get_shared_memory("global", "topic").n == 1)
assert(Agent.get_shared_memory({type = "user", id = "ann"}, "topic") == "hers")
assert(State.load("user:ann", "shared:topic") == "hers")

-- registered

local name = Agent.register{name = "clerk", description = "Repeats.", agent_type = "basic", replace = true}
assert(name == "clerk")
raises("AGENT_EXISTS", Agent.register, {name = "clerk", agent_type = "basic"})
local known = false
for _, each in ipairs(Agent.registered()) do known = known or each == "clerk" end
assert(known, "it is not listed")
local clerk = Agent.get("clerk")
assert(clerk:execute("to the clerk").text:find("to the clerk"))
assert(clerk:get_state() and #clerk:get_state_history() >= 0)
assert(Agent.unregister("clerk") and not Agent.unregister("clerk"))
raises("AGENT_NOT_FOUND", clerk.execute, clerk, "x")

-- the script's hooks, around tools that a model calls

local seen = {}
Hook.register("BeforeToolExecution", function(context)
  seen[#seen + 1] = context.component_id.name
  local given = context.data
  if given.name == "calculator" then
    given.arguments.input = "2 * 3"
    return {type = "modified", data = given}
  end
  if given.name == "base64-encoder" then return {type = "cancel", reason = "not today"} end
end)
local hooked = Agent.create{name = "hooked", model = "scripted/inline", base_url = played({tools = {
  {name = "calculator", arguments = {input = "1"}},
  {name = "base64-encoder", arguments = {operation = "encode", input = "x"}},
  {name = "own", arguments = {}},
}}, {text = "{{result}}"}), tools = {
  "calculator", "base64-encoder", {name = "own", fn = function() return "mine" end},
}}
local through = hooked:execute("x")
assert(table.concat(seen, " ") == "calculator base64-encoder own", table.concat(seen, " "))
assert(through.tool_calls[1].result.result == 6 and through.text == "mine")
assert(through.tool_calls[2].error.reason == "HOOK_CANCELLED")
assert(through.tool_calls[2].error.message == "not today")

a:destroy()
assert(not pcall(Agent.get_details, "a"))

return "done"
