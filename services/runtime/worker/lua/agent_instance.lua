-- The agents of a run: each is a record here and a table with methods in the script.

local kit = ...

local life, options = kit.agent_life, kit.options
local run, spec, watch = kit.agent_run, kit.agent_spec, kit.agent_watch
local error, next, pcall, rawget = error, next, pcall, rawget
local setmetatable, type = setmetatable, type
local format, random, sort = string.format, math.random, table.sort
local Event = kit.env.Event

local SERVICE = "llmspell.v1.AgentService/"
local GET_PROVIDER = "llmspell.v1.ProviderService/GetProvider"
local STATE_KEY = "saved_state"

local instances = {}
kit.agent_instances = instances

-- Records by name, and the names in the order in which they were made.
local by_name, names, made = {}, {}, 0
local record_of = setmetatable({}, {__mode = "k"})

local Instance = {__name = "agent", __metatable = false}
local Methods = {}
Instance.__index = Methods

-- The record behind an instance; a method that is called with a dot has none.
local function behind(instance, method)
  local record = type(instance) == "table" and record_of[instance]
  if not record then error("agent:" .. method .. ": call it with a colon on an agent", 3) end
  return record
end

-- keeping --------------------------------------------------------------------------------------

function instances.all()
  local found = {}
  for i, name in next, names do found[i] = by_name[name] end
  return found
end

function instances.own(name) return by_name[name] end

-- A name that no other has; of the run's own chance, so a run that is made again finds the same.
function instances.new_name()
  local name
  repeat name = "agent_" .. format("%08x", random(0, 0xFFFFFFFF)) until not by_name[name]
  return name
end

local function record(name, is_registered)
  made = made + 1
  return {
    name = name, id = "agent-" .. kit.tostring(made), registered = is_registered, functions = {},
    agents = {}, stats = watch.new(), custom_state = nil,
    life = is_registered and life.registered(name) or life.new(name),
  }
end

local function instance_of(one)
  if one.instance then return one.instance end
  one.instance = setmetatable({
    name = one.name, id = one.id, description = one.spec.description, type = one.spec.type,
    model = one.spec.model,
  }, Instance)
  record_of[one.instance] = one
  return one.instance
end
instances.instance_of = instance_of

-- A provider that is not there or has no key is told of when the agent is built, once for each name.
local known = {}

local function check_provider(made_spec)
  local name = spec.provider_of(made_spec)
  if not name or made_spec.base_url or made_spec.api_key or known[name] then return end
  local ok, answer = pcall(kit.call, GET_PROVIDER, {name = name})
  if not ok and kit.is_failure(answer) and rawget(answer, "reason") == "PROVIDER_NOT_FOUND" then
    error(answer, 0)
  elseif ok and not answer.provider.enabled then
    error(kit.failure({
      code = "FAILED_PRECONDITION", reason = "PROVIDER_KEY_REFUSED", metadata = {provider = name},
      message = "The provider " .. name .. " cannot be used: " .. answer.provider.disabled_reason .. ".",
    }), 0)
  end
  known[name] = ok and answer.provider or {}
end

-- What is known of a spec's provider; empty where nobody has asked.
function instances.provider_of(made_spec)
  local name = spec.provider_of(made_spec)
  return name and known[name] or {}
end

-- What hooks make of an agent that is built; they see it pass as one that is registered.
local function passed(made_spec)
  local method = SERVICE .. "CreateAgent"
  if not kit.is_hooked(method) then return made_spec end
  local answer = kit.call(method, {spec = made_spec}, nil, function(_, args)
    return {agent = {spec = args.spec}}
  end)
  answer.agent.spec.name = made_spec.name
  return answer.agent.spec
end

local function used_agents(set)
  local used = {}
  for i, one in next, set.agents or {} do
    local field = "agents[" .. kit.tostring(i) .. "]"
    if type(one) ~= "table" or record_of[one] or type(one.name) == "string" and one.agent == nil then
      one = {agent = one}
    end
    local agent = instances.find(one.agent, field)
    used[#used + 1] = {
      agent = agent, tool_name = one.tool_name,
      description = one.description or agent.spec.description,
    }
  end
  return used
end
instances.used = used_agents

-- Makes an agent of this run. `composite`: {members, strategy, …} where it is several.
function instances.make(set, composite)
  local name = set.name
  if name ~= nil and by_name[name] then
    error(kit.failure({
      code = "ALREADY_EXISTS", reason = "AGENT_EXISTS", metadata = {agent = name},
      message = "There is an agent " .. name .. " in this run already.",
    }), 0)
  end
  if name == "" then kit.required("name") end
  set.name = name or instances.new_name()
  local made_spec, functions = spec.of(set, composite)
  check_provider(made_spec)
  made_spec = passed(made_spec)
  local one = record(set.name, false)
  one.spec, one.functions, one.composite, one.agents = made_spec, functions, composite, used_agents(set)
  one.session_id, one.conversation_id = set.session_id, set.conversation_id
  by_name[one.name] = one
  names[#names + 1] = one.name
  return instance_of(one)
end

-- A registered agent, as an instance; nil where there is none.
local registered = {}

function instances.registered(name)
  if registered[name] then return registered[name] end
  local ok, answer = pcall(kit.call, SERVICE .. "GetAgent", {name = name})
  if not ok then
    if kit.is_failure(answer) and rawget(answer, "reason") == "AGENT_NOT_FOUND" then return nil end
    error(answer, 0)
  end
  local one = record(name, true)
  one.spec = answer.agent.spec
  registered[name] = one
  return one
end

-- The record of an instance, or of a name: of this run, or registered.
function instances.find(given, field)
  if type(given) == "table" and record_of[given] then return record_of[given] end
  local name = options.text(given, field or "agent")
  local found = by_name[name] or instances.registered(name)
  if found then return found end
  error(kit.failure({
    code = "NOT_FOUND", reason = "AGENT_NOT_FOUND", metadata = {agent = name},
    message = "There is no agent " .. name .. ".",
  }), 0)
end

local function remove(one)
  local rest = {}
  for _, name in next, names do
    if name ~= one.name then rest[#rest + 1] = name end
  end
  names = rest
  by_name[one.name] = nil
  kit.tools.drop(function(tool) return tool.agent == one end)
end

-- asking ---------------------------------------------------------------------------------------

--| `agent:execute(input, how)`, `agent:invoke(input, how)`
--- Asks it, and gives what it said: `text`, `data` where that is JSON, `tool_calls`, `citations`,
--- `cost_usd`, `usage`, `finish_reason`, `metadata{model, token_count, execution_time_ms}`, `media`.
--- `input` is text, or a table of `text` (or `prompt`), `parameters`, `media`. `how`: `context`,
--- `session_id`, `conversation_id`, `timeout`, `max_cost_usd`, `max_turns`, `max_tool_calls`.
function Methods.execute(self, input, how) return run.execute(behind(self, "execute"), input, how) end
function Methods.invoke(self, input, how) return run.execute(behind(self, "invoke"), input, how) end

--| `agent:invokeStream(input, fn, how)`
--- The same; `fn` is given each piece as it comes: `{type = "text", text}`, `tool_started`,
--- `tool_ended` (`tool`, `arguments`, `result`, `error`), `usage`. Gives `{success,
--- chunks_received, text, output}`. Also `agent:stream`.
function Methods.invokeStream(self, input, hears, how)
  return run.stream(behind(self, "invokeStream"), input, hears, how)
end
function Methods.stream(self, input, hears, how)
  return run.stream(behind(self, "stream"), input, hears, how)
end

--| `agent:execute_with_context(input, context)`
--- Asks it, with the facts of a context (its id, or a table).
function Methods.execute_with_context(self, input, context)
  if context == nil then kit.required("context") end
  return run.execute(behind(self, "execute_with_context"), input, {context = context})
end

--| `agent:get_conversation(limit)`, `agent:clear_conversation()`
--- The messages so far, the oldest first (`role`, `text`, `tool_calls`, `timestamp`); forgets them.
function Methods.get_conversation(self, limit)
  return run.conversation(behind(self, "get_conversation"), limit)
end
function Methods.clear_conversation(self) return run.forget(behind(self, "clear_conversation")) end

-- its life -------------------------------------------------------------------------------------

--| `agent:initialize()`, `start()`, `pause()`, `resume()`, `stop()`, `terminate()`,
--| `set_error(message)`, `recover()`
--- Moves of its life. A move that is not legal raises `AGENT_STATE`. Executing one that was never
--- started initializes it.
for _, name in next, {
  "initialize", "start", "pause", "resume", "stop", "terminate", "set_error", "recover",
} do
  local move = life[name]
  Methods[name] = function(self, ...)
    local one = behind(self, name)
    move(one, ...)
    watch.check(one)
  end
end

--| `agent:get_state()`, `agent:get_agent_state()`
--- `Uninitialized`, `Initializing`, `Ready`, `Running`, `Paused`, `Terminating`, `Terminated`,
--- `Error` or `Recovering`.
function Methods.get_state(self) return behind(self, "get_state").life:state() end
function Methods.get_agent_state(self) return behind(self, "get_agent_state").life:state() end

--| `agent:get_state_history()`, `agent:get_state_metrics()`
--- `{from, to, timestamp, elapsed, reason}` of each move; how often and how long in each state.
function Methods.get_state_history(self) return behind(self, "get_state_history").life:history() end
function Methods.get_state_metrics(self) return behind(self, "get_state_metrics").life:metrics() end

--| `agent:get_last_error()`, `agent:get_recovery_attempts()`, `agent:is_healthy()`
--- Text or nil; how often it was recovered; whether it can answer.
function Methods.get_last_error(self) return behind(self, "get_last_error").life.last_error end
function Methods.get_recovery_attempts(self)
  return behind(self, "get_recovery_attempts").life:metrics().recovery_attempts
end
function Methods.is_healthy(self) return life.is_healthy(behind(self, "is_healthy")) end

-- its state ------------------------------------------------------------------------------------

--| `agent:get_config()`, `agent:set_state(table)`
--- What it was built with, without its key; keeps a table of the script's with it.
function Methods.get_config(self) return spec.shown(behind(self, "get_config").spec) end
function Methods.set_state(self, value)
  behind(self, "set_state").custom_state = options.table(value, "state")
end
function Methods.get_custom_state(self) return behind(self, "get_custom_state").custom_state end

local function kept_stats(stats)
  return {
    requests = stats.requests, failed = stats.failed, tools = stats.tools, took_ms = stats.took_ms,
    input_tokens = stats.input_tokens, output_tokens = stats.output_tokens, cost_usd = stats.cost_usd,
  }
end

--| `agent:save_state()`, `agent:load_state()`, `agent:delete_state()`
--- Keeps its life, counts and the table of `set_state` in `State` of scope `agent:NAME`; takes them
--- from there, whichever run saved them (`false`: nothing is kept); drops them.
function Methods.save_state(self)
  local one = behind(self, "save_state")
  kit.state.save("agent:" .. one.name, STATE_KEY, {
    life = one.life:kept(), stats = kept_stats(one.stats), state = one.custom_state,
    saved_at = kit.now(),
  })
end

function Methods.load_state(self)
  local one = behind(self, "load_state")
  local kept = kit.state.load("agent:" .. one.name, STATE_KEY)
  if type(kept) ~= "table" then return false end
  one.life:restore(kept.life or {})
  for key, value in next, kept.stats or {} do one.stats[key] = value end
  one.custom_state = kept.state
  return true
end

function Methods.delete_state(self)
  kit.state.save("agent:" .. behind(self, "delete_state").name, STATE_KEY, nil)
end

-- its tools ------------------------------------------------------------------------------------

-- Tools that it may call: those that it names, or all that there are where it names none.
local function tools_of(one)
  local allowed, found = {}, kit.list({})
  local takes_all = #(one.spec.tools or {}) == 0
  for _, name in next, one.spec.tools or {} do
    if name == "*" then takes_all = true end
    allowed[name] = true
  end
  for _, tool in next, kit.tools.all() do
    if tool.agent ~= one and (takes_all or allowed[tool.name]) then
      found[#found + 1] = {name = tool.name, description = tool.description, version = tool.version}
    end
  end
  for _, tool in next, one.functions do
    found[#found + 1] = {name = tool.name, description = tool.description, version = "1.0.0"}
  end
  sort(found, function(a, b) return a.name < b.name end)
  return found
end

local function tool_of(one, name)
  options.text(name, "tool")
  for _, tool in next, tools_of(one) do
    if tool.name == name then return tool end
  end
end

--| `agent:discover_tools()`, `agent:has_tool(name)`, `agent:get_tool_metadata(name)`,
--| `agent:get_all_tool_metadata()`
--- Names of the tools that it may call (of all tools, where it was given none); whether one is among
--- them; `{name, description, version}` of one or nil; of all, by name.
function Methods.discover_tools(self)
  local found = kit.list({})
  for i, tool in next, tools_of(behind(self, "discover_tools")) do found[i] = tool.name end
  return found
end
function Methods.has_tool(self, name) return tool_of(behind(self, "has_tool"), name) ~= nil end
function Methods.get_tool_metadata(self, name)
  return tool_of(behind(self, "get_tool_metadata"), name)
end
function Methods.get_all_tool_metadata(self)
  local found = {}
  for _, tool in next, tools_of(behind(self, "get_all_tool_metadata")) do found[tool.name] = tool end
  return found
end

--| `agent:invokeTool(name, params)`
--- Executes a tool of it, or any other, as `Tool.execute` does; it is counted as the agent's.
function Methods.invokeTool(self, name, params)
  local one = behind(self, "invokeTool")
  one.stats.tools = one.stats.tools + 1
  for _, tool in next, one.functions do
    if tool.name == name then
      local answer = run.guarded(tool.fn)(nil, {arguments = params or {}})
      return {success = true, result = answer.result, metadata = {}}
    end
  end
  return kit.tools.execute(name, params)
end

-- how it does ----------------------------------------------------------------------------------

--| `agent:get_metrics()`, `agent:get_performance()`, `agent:get_health()`,
--| `agent:get_bridge_metrics()`
--- Counts of requests, tools, tokens and money; averages and rates; `{status, message, timestamp}`;
--- how many agents and tools there are.
function Methods.get_metrics(self) return watch.metrics(behind(self, "get_metrics")) end
function Methods.get_performance(self) return watch.performance(behind(self, "get_performance")) end
function Methods.get_health(self) return watch.health(behind(self, "get_health")) end
function Methods.get_bridge_metrics(self)
  behind(self, "get_bridge_metrics")
  return watch.bridge(instances.all(), #kit.tools.all())
end

--| `agent:configure_alerts(alert)`, `agent:get_alerts()`
--- Sets an alert, or a list: `{name, severity, condition, cooldown_seconds, enabled}` with a
--- condition of type `metric_threshold` (`metric_name`, `operator`, `threshold`,
--- `duration_seconds`), `health_status` (`status`) or `error_rate` (`rate_percent`); those that were
--- met: `{name, severity, message, timestamp}`.
function Methods.configure_alerts(self, given)
  watch.configure(behind(self, "configure_alerts"), given)
end
function Methods.get_alerts(self) return watch.alerts(behind(self, "get_alerts")) end

--| `agent:logEvent(type, message)`
--- Publishes an event `agent.TYPE` with the agent's name and the message.
function Methods.logEvent(self, kind, message)
  local one = behind(self, "logEvent")
  Event.publish("agent." .. options.text(kind, "type"), {agent = one.name, message = message}, {
    source = "agent:" .. one.name,
  })
end

--| `agent:destroy()`
--- Ends it and removes it from the run, with the tools that were made of it; a registered one is
--- removed from the tenant.
function Methods.destroy(self)
  local one = behind(self, "destroy")
  if one.registered then
    kit.call(SERVICE .. "DeleteAgent", {name = one.name})
    registered[one.name] = nil
    return
  end
  if by_name[one.name] ~= one then return end
  if one.life:state() ~= "Terminated" then life.terminate(one) end
  remove(one)
end
