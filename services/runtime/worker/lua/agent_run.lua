-- Executing an agent: its whole description goes out with each call, so whoever answers needs to know
-- nothing else of it; its functions stay here and are called when the model wants them.

local kit = ...

local contexts, life, options = kit.agent_contexts, kit.agent_life, kit.options
local output, watch = kit.agent_output, kit.agent_watch
local error, next, pcall, rawget, tonumber, type = error, next, pcall, rawget, tonumber, type
local concat, gmatch = table.concat, string.gmatch

local SERVICE = "llmspell.v1.AgentService/"
local EXECUTE, EXECUTE_TOOL = SERVICE .. "ExecuteAgent", "llmspell.v1.ToolService/ExecuteTool"
local DEPTH_MAX = 10

local run = {}
kit.agent_run = run

-- functions ------------------------------------------------------------------------------------

-- A function of the script as a tool: what it raises is a failure of the tool, and hooks see it pass.
local function guarded(fn)
  return function(_, given)
    local ok, result = pcall(fn, given.arguments or {})
    if not ok then
      if result == "not enough memory" or kit.is_failure(result) then error(result, 0) end
      local _, message = pcall(kit.describe, result)
      error(kit.failure({
        code = "FAILED_PRECONDITION", reason = "TOOL_FAILED", metadata = {},
        message = kit.tostring(message),
      }), 0)
    end
    return {success = true, result = result, metadata = {}}
  end
end
run.guarded = guarded

local function as_tool(name, fn)
  local perform = guarded(fn)
  return function(arguments)
    local args = {name = name, arguments = arguments, session_id = kit.session_id}
    return kit.call(EXECUTE_TOOL, args, nil, perform).result
  end
end

-- A tool that the script has made, called as any other.
local function own_tool(name)
  return function(arguments)
    local answer = kit.tools.execute(name, arguments)
    if not rawget(answer, "success") then error(kit.tostring(rawget(answer, "error")), 0) end
    return rawget(answer, "result")
  end
end

-- describing -----------------------------------------------------------------------------------

local ref_of

local function offer(found, full, one, fn)
  full.functions[#full.functions + 1] = {
    name = one.name, description = one.description, parameters_schema = one.parameters_schema,
  }
  found.by_agent[full.name] = found.by_agent[full.name] or {}
  found.by_agent[full.name][one.name] = fn
  found.any[one.name] = found.any[one.name] or fn
end

-- Notes an agent that the outermost one calls in the host, where it is not counted.
local function use(found, tool_name, agent)
  if #found.open == 1 then found.used[tool_name] = agent end
end

-- With hooks of the script's own around agents, an agent that is a tool is executed from here.
local function add_own(found, full, tool)
  if tool.agent and not kit.is_hooked(EXECUTE) and not kit.is_hooked(EXECUTE_TOOL) then
    use(found, tool.name, tool.agent)
    full.agents[#full.agents + 1] = {
      tool_name = tool.name, description = tool.description, agent = ref_of(tool.agent, found),
    }
  else
    offer(found, full, tool, own_tool(tool.name))
  end
end

local function add_tools(record, found, full)
  for _, name in next, record.spec.tools or {} do
    local tool = kit.tools.own(name)
    if tool then add_own(found, full, tool) else full.tools[#full.tools + 1] = name end
    for _, every in next, name == "*" and kit.tools.own_all() or {} do
      if every.agent ~= record then add_own(found, full, every) end
    end
  end
  for _, one in next, record.functions do offer(found, full, one, as_tool(one.name, one.fn)) end
end

local function add_members(record, found, full)
  local composite = record.composite
  if not composite then return end
  full.composite = {
    strategy = composite.strategy, threshold = composite.threshold,
    router_model = composite.router_model, agents = kit.list({}),
    fallback = composite.fallback and ref_of(composite.fallback, found),
  }
  for i, member in next, composite.members do full.composite.agents[i] = ref_of(member, found) end
  if composite.router then
    full.composite.router_function = "route"
    found.by_agent[record.name] = found.by_agent[record.name] or {}
    found.by_agent[record.name].route = composite.router
    found.any.route = found.any.route or composite.router
  end
end

local function cyclic(record, found)
  local names = {}
  for i = 1, #found.open do names[i] = found.open[i].name .. " → " end
  kit.invalid("agents", "must not contain itself (" .. concat(names) .. record.name .. ")")
end

local function spec_of(record, found)
  for _, open in next, found.open do
    if open == record then cyclic(record, found) end
  end
  found.open[#found.open + 1] = record
  local full = {}
  for key, value in next, record.spec do full[key] = value end
  full.tools, full.functions, full.agents = kit.list({}), kit.list({}), kit.list({})
  add_tools(record, found, full)
  for _, used in next, record.agents do
    use(found, used.tool_name or used.agent.name .. "_tool", used.agent)
    full.agents[#full.agents + 1] = {
      tool_name = used.tool_name, description = used.description, agent = ref_of(used.agent, found),
    }
  end
  add_members(record, found, full)
  found.open[#found.open] = nil
  return full
end

function ref_of(record, found)
  if record.registered then return {name = record.name} end
  return {spec = spec_of(record, found)}
end

-- The contract's AgentRef of an agent, what finds its functions for a callback, and the agents that it
-- calls by the names of their tools.
function run.ref(record)
  local found = {by_agent = {}, any = {}, open = {}, used = {}}
  local ref = ref_of(record, found)
  return ref, function(callback)
    local fn
    for segment in gmatch(callback.path or "", "[^/]+") do
      local of_agent = found.by_agent[segment]
      if of_agent and of_agent[callback.name] then fn = of_agent[callback.name] end
    end
    return fn or found.any[callback.name]
  end, found.used
end

-- asking ---------------------------------------------------------------------------------------

local function money(value, name)
  if options.number(value, name) <= 0 then kit.invalid(name, "must be above 0") end
  return value
end

local HOW = {
  session_id = options.text, conversation_id = options.text, context = options.anything,
  timeout = options.seconds, timeout_ms = options.count(1), max_cost_usd = money,
  max_turns = options.count(1), max_tool_calls = options.count(1),
}

local function limits_of(how)
  local limits = {
    timeout = how.timeout or how.timeout_ms and how.timeout_ms / 1000, max_turns = how.max_turns,
    max_cost_usd = how.max_cost_usd, max_tool_calls = how.max_tool_calls,
  }
  return next(limits) ~= nil and limits or nil
end

-- Facts of a context, given by its id or as a table, and where it says the conversation is.
local function context_of(how)
  local given = how.context
  if given == nil then return nil, {} end
  if type(given) == "table" then return given, {} end
  local context = contexts.find(given)
  return contexts.data(context), context
end

-- Where its conversation is: named, or that of the session, or one of this agent in this run.
local function place_of(record, how)
  how = how or {}
  local _, context = context_of(how)
  local session = how.session_id or context.session_id or record.session_id or kit.session_id
  local conversation = how.conversation_id or context.conversation_id or record.conversation_id
  if not conversation and not session and not record.registered then
    -- The host keeps such a one for a day, so that a run that is resumed finds it.
    conversation = "run:" .. (kit.run_id or "")
  end
  return session, conversation
end

local function request_of(record, input, how)
  local ref, find, used = run.ref(record)
  local session, conversation = place_of(record, how)
  return {
    agent = ref, input = output.input(input), session_id = session, conversation_id = conversation,
    context = (context_of(how)), limits = limits_of(how),
  }, find, used
end

local depth = 0

local function check_depth(record)
  local most = record.spec.limits and record.spec.limits.max_depth or 0
  if most == 0 then most = DEPTH_MAX end
  if depth < most then return end
  error(kit.failure({
    code = "RESOURCE_EXHAUSTED", reason = "AGENT_DEPTH_LIMIT", metadata = {agent = record.name},
    message = "Agents call agents more than " .. kit.tostring(most) .. " deep.",
  }), 0)
end

local function failed(record, raised)
  local stats = record.stats
  stats.failed = stats.failed + 1
  if not kit.is_failure(raised) then return end
  record.life.last_error = kit.tostring(raised)
  local metadata = rawget(raised, "metadata") or {}
  stats.cost_usd = stats.cost_usd + (tonumber(metadata.cost_usd) or 0)
end

local function count_calls(told)
  return told.spent and told.spent.tool_calls or told.tool_calls and #told.tool_calls or 0
end

-- Agents that were asked by this one.
local function count_used(told, used)
  for _, call in next, told.tool_calls or {} do
    local agent = used[call.tool]
    if agent then
      agent.stats.requests = agent.stats.requests + 1
      agent.stats.took_ms = agent.stats.took_ms + (call.elapsed or 0) * 1000
      if call.failure then agent.stats.failed = agent.stats.failed + 1 end
    end
  end
end

-- Asks an agent; what it said as scripts see it, or an error. `hears` is told of chunks.
function run.execute(record, input, how, hears)
  how = options.read(how, HOW)
  local request, find, used = request_of(record, input, how)
  check_depth(record)
  local leave, stats = life.enter(record), record.stats
  stats.requests, stats.active, depth = stats.requests + 1, stats.active + 1, depth + 1
  local ok, told = pcall(kit.execute, EXECUTE, request, {
    functions = find, on_event = hears and function(event)
      local chunk = output.chunk(event)
      if chunk then hears(chunk) end
    end,
  })
  stats.active, depth = stats.active - 1, depth - 1
  if not ok then failed(record, told) end
  leave()
  if ok then
    watch.add(stats, output.spent(told.spent), (told.elapsed or 0) * 1000, count_calls(told))
    count_used(told, used)
  end
  watch.check(record)
  if not ok then error(told, 0) end
  return output.told(told)
end

-- Asks, and gives what it says to `hears` piece by piece.
function run.stream(record, input, hears, how)
  if type(hears) ~= "function" then kit.invalid("callback", "must be a function") end
  local count = 0
  local said = run.execute(record, input, how, function(chunk)
    count = count + 1
    chunk.index = count
    hears(chunk)
  end)
  return {success = true, chunks_received = count, text = said.text, output = said,
    cost_usd = said.cost_usd}
end

-- conversations --------------------------------------------------------------------------------

-- The messages of its conversation, the oldest first.
function run.conversation(record, limit)
  local session, conversation = place_of(record)
  local told = kit.call(SERVICE .. "GetConversation", {
    agent = record.name, session_id = session, conversation_id = conversation,
    limit = limit ~= nil and options.count(1)(limit, "limit") or nil,
  })
  local messages = kit.list({})
  for i, one in next, told.messages or {} do
    local calls = kit.list({})
    for j, call in next, one.tool_calls or {} do calls[j] = output.tool_call(call) end
    messages[i] = {role = one.role, text = one.text, content = one.text, tool_calls = calls,
      call_id = one.call_id ~= "" and one.call_id or nil, timestamp = one.time}
  end
  return messages
end

-- Whether there was one.
function run.forget(record)
  local session, conversation = place_of(record)
  return kit.call(SERVICE .. "DeleteConversation", {
    agent = record.name, session_id = session, conversation_id = conversation,
  }).deleted
end
