-- Steps of workflows, as scripts write them and as the contract has them.

local kit = ...

local first, options, workflow = kit.options.first, kit.options, kit.workflow
local agents, next, type = kit.agent_instances, next, type

-- How often a step may be tried.
local TRIES_MAX = 100

-- words ----------------------------------------------------------------------------------------

workflow.STRATEGIES = options.one_of{
  fail_fast = "FAIL_FAST", ["fail-fast"] = "FAIL_FAST", stop = "FAIL_FAST", fail = "FAIL_FAST",
  continue = "CONTINUE", collect = "CONTINUE", ignore = "CONTINUE", skip = "CONTINUE",
  retry = "RETRY",
}

local RETRY = {
  max_attempts = options.count(1, TRIES_MAX), attempts = options.count(1, TRIES_MAX),
  delay = options.number, delay_ms = options.count(0), backoff_ms = options.count(0),
  multiplier = options.number, backoff = options.number,
  delay_max = options.seconds, max_delay_ms = options.count(1),
}

-- How something is tried again: from `retry`, `retry_count` and `retry_delay_ms`; nil: it is not said.
function workflow.retry_of(given)
  local retry = given.retry
  if retry == nil and given.retry_count == nil and given.retry_delay_ms == nil then return nil end
  if type(retry) == "number" then retry = {max_attempts = retry} end
  local set = options.read(retry, RETRY, "retry", true)
  local delay_ms = first(set, "delay_ms", "backoff_ms")
  if delay_ms == nil then delay_ms = given.retry_delay_ms end
  local most = set.max_delay_ms
  return {
    max_attempts = first(set, "max_attempts", "attempts")
      or given.retry_count and given.retry_count + 1 or nil,
    delay = set.delay or delay_ms and delay_ms / 1000 or nil,
    multiplier = first(set, "multiplier", "backoff"),
    delay_max = set.delay_max or most and most / 1000 or nil,
  }
end

-- Seconds, from seconds or milliseconds.
function workflow.timeout_of(given)
  return given.timeout or given.timeout_ms and given.timeout_ms / 1000 or nil
end

-- A map of arguments; a text alone is its `input`.
local function arguments_of(value, place)
  if value == nil then return nil end
  if type(value) == "table" then return value end
  if type(value) == "function" then kit.invalid(place, "must be a table, not a function") end
  return {input = value}
end

-- actions --------------------------------------------------------------------------------------

local ACTIONS = {}

local function input_of(step)
  return first(step, "input", "inputs", "parameters", "params", "arguments", "request")
end

local function needs(step, place, ...)
  local value = first(step, ...)
  if value == nil then kit.required(place .. "." .. (...)) end
  return value
end

function ACTIONS.tool(step, place)
  local tool = needs(step, place, "tool", "tool_name")
  if type(tool) == "table" then tool = tool.name end
  return {tool = {
    tool = options.text(tool, place .. ".tool"),
    arguments = arguments_of(input_of(step), place .. ".input"),
  }}
end

-- An agent as the contract has it: one of this run brings its description and its functions, any other
-- name is that of a registered one.
function workflow.agent_ref(value, place, book)
  local one
  if type(value) == "table" then
    one = agents.find(value, place)
  else
    one = agents.own(options.text(value, place))
    if not one then return {name = value} end
  end
  local ref, find = kit.agent_run.ref(one)
  book.finders[#book.finders + 1] = find
  return ref
end

local function agent_input(step, place)
  local input = step.input
  if type(input) ~= "table" then
    if input ~= nil then input = kit.tostring(input) end
    return input or step.prompt, first(step, "parameters", "params", "inputs")
  end
  local parameters = input.parameters
  if parameters == nil then
    for name, value in next, input do
      if name ~= "text" and name ~= "prompt" then
        parameters = parameters or {}
        parameters[name] = value
      end
    end
  end
  local text = first(input, "text", "prompt")
  return text ~= nil and options.text(text, place .. ".input.text") or nil, parameters
end

function ACTIONS.agent(step, place, book)
  local input, parameters = agent_input(step, place)
  local agent = needs(step, place, "agent", "agent_name")
  return {agent = {
    agent = workflow.agent_ref(agent, place .. ".agent", book), input = input, parameters = parameters,
  }}
end

-- A workflow within: an instance of this run, by itself or by its name, or a registered one.
function ACTIONS.workflow(step, place, book)
  local inner = needs(step, place, "workflow", "workflow_name")
  local one = workflow.find(inner)
  local inputs = arguments_of(input_of(step), place .. ".input")
  if one then
    for name, fn in next, one.functions do book.functions[name] = fn end
    for _, find in next, one.finders do book.finders[#book.finders + 1] = find end
    return {workflow = {definition = one.definition, inputs = inputs}}
  end
  if type(inner) ~= "string" then
    kit.invalid(place .. ".workflow", "must be a workflow or the name of one, not a " .. type(inner))
  end
  return {workflow = {name = inner, inputs = inputs}}
end

-- What a function is given of which nothing is said.
local UNSAID = {inputs = "{{inputs}}", shared = "{{shared}}"}

local function function_step(step, place, book, fn)
  return {["function"] = {
    ["function"] = workflow.function_name(book, fn, book.name .. "/" .. step.name, place),
    arguments = arguments_of(input_of(step), place .. ".input") or UNSAID,
  }}
end

ACTIONS["function"] = function(step, place, book)
  return function_step(step, place, book, needs(step, place, "function", "fn"))
end

-- Steps of old: functions that every script knows by name, see workflow_custom.lua.
function ACTIONS.custom(step, place, book)
  local fn = needs(step, place, "function", "fn", "function_name")
  if type(fn) == "string" and not book.named[fn] then
    local known = workflow.customs[fn]
    if not known then
      local near = options.nearest(fn, workflow.customs)
      kit.refuse("FIELD_INVALID", place .. ".function", place .. ".function: there is no function "
        .. fn .. (near and "; did you mean " .. near .. "?"
        or "; give a Lua function, or one of `functions`."),
        {field = place .. ".function", nearest = near})
    end
    fn = known
  end
  return function_step(step, place, book, fn)
end

-- A method of the contract, written as in gRPC: `StateService/SetState`.
function ACTIONS.call(step, place)
  return {call = {
    method = options.text(needs(step, place, "method", "call"), place .. ".method"),
    arguments = arguments_of(input_of(step), place .. ".request"),
  }}
end

function ACTIONS.template(step, place)
  return {template = {
    template_id = options.text(needs(step, place, "template_id", "template"), place .. ".template_id"),
    parameters = arguments_of(input_of(step), place .. ".params"),
  }}
end

-- Without a type it is what it has.
local TELLING = {
  {"tool", "tool"}, {"tool_name", "tool"}, {"agent", "agent"}, {"agent_name", "agent"},
  {"workflow", "workflow"}, {"template_id", "template"}, {"template", "template"},
  {"method", "call"}, {"call", "call"}, {"fn", "function"}, {"function", "custom"},
}

local function action_of(step, place)
  local kind = step.type
  if kind == nil then
    for _, pair in next, TELLING do
      if step[pair[1]] ~= nil then return ACTIONS[pair[2]] end
    end
    kit.required(place .. ".type")
  end
  local action = ACTIONS[kind]
  if action then return action end
  local near = options.nearest(kind, ACTIONS)
  kit.refuse("FIELD_INVALID", place .. ".type", place .. ".type " .. kind .. " is not known; "
    .. (near and "did you mean " .. near .. "?" or "there are tool, agent, workflow, function, call, "
    .. "template and custom."), {field = place .. ".type", nearest = near})
end

-- steps ----------------------------------------------------------------------------------------

local STEP = {
  name = options.text, type = options.text, description = options.text, tool = options.anything,
  tool_name = options.text, agent = options.anything, agent_name = options.text, prompt = options.text,
  workflow = options.anything, workflow_name = options.text, ["function"] = options.anything,
  fn = options.anything, function_name = options.text, method = options.text, call = options.text,
  template_id = options.text, template = options.text, input = options.anything,
  inputs = options.anything, parameters = options.anything, params = options.anything,
  arguments = options.anything, request = options.anything, timeout = options.seconds,
  timeout_ms = options.count(1), retry = options.anything, retry_count = options.count(0, TRIES_MAX - 1),
  retry_delay_ms = options.count(0), on_error = workflow.STRATEGIES,
  error_strategy = workflow.STRATEGIES, condition = options.anything, compensation = options.anything,
  save_as = options.text,
}

local step_of

local function compensation_of(given, name, place, book)
  if given == nil then return nil end
  if type(given) == "function" then given = {type = "function", fn = given} end
  options.table(given, place)
  if given.name == nil then
    local copy = {}
    for field, value in next, given do copy[field] = value end
    copy.name = "undo_" .. name
    given = copy
  end
  return step_of(given, place, book)
end

-- A step as the contract has it. A function alone is a step that calls it.
function step_of(given, place, book, number)
  if type(given) == "function" then given = {type = "function", fn = given} end
  options.table(given, place)
  local step = options.read(given, STEP, place)
  step.name = step.name or (number and "step_" .. kit.tostring(number)) or kit.required(place .. ".name")
  local made = action_of(step, place)(step, place, book)
  made.name = step.name
  made.timeout, made.retry = workflow.timeout_of(step), workflow.retry_of(step)
  made.on_error, made.save_as = step.on_error or step.error_strategy, step.save_as
  if step.condition ~= nil then
    made.condition = workflow.condition(step.condition, place .. ".condition", book)
  end
  made.compensation = compensation_of(step.compensation, step.name, place .. ".compensation", book)
  return made
end

workflow.step = step_of

-- A list of steps; what is one step alone is a list of it.
function workflow.steps(list, place, book)
  if list == nil then kit.required(place) end
  if type(list) == "function" or type(list) == "table" and list.type ~= nil then list = {list} end
  options.table(list, place)
  local made = {}
  for i = 1, #list do made[i] = step_of(list[i], place .. "[" .. i .. "]", book, i) end
  return kit.list(made)
end
