-- One execution of a workflow: the host runs it, the script's functions are called here, and hooks of
-- the script hear of it.
--
-- BeforeWorkflowStart, AfterWorkflowComplete and WorkflowError are reached around the whole and may
-- change it, as those of any call; the others tell what has happened, once it has.

local kit = ...

local chain, workflow = kit.hook_chain, kit.workflow
local lower, next, pcall, type = string.lower, next, pcall, type
local error, find, match, rawget = error, string.find, string.match, rawget
local debug_log = kit.env.Debug.debug

local EXECUTE = "llmspell.v1.WorkflowService/ExecuteWorkflow"
-- Under this name the script's hooks are asked, once for the whole; the call of EXECUTE only begins it.
local WHOLE = "Workflow.execute"

kit.points[EXECUTE] = nil
kit.points[WHOLE] = {
  component = "workflow", name = "name", before = {"BeforeWorkflowStart"},
  after = {"AfterWorkflowComplete"}, error = {"WorkflowError"},
}

-- functions ------------------------------------------------------------------------------------

-- What functions put into shared data, the innermost last.
local shares = {}

-- Notes a value that the function which is running shares.
function workflow.share(key, value)
  local mine = shares[#shares]
  if not mine then return end
  mine.values = mine.values or {}
  mine.values[key] = value
end

-- A function as the host asks for it: of its arguments, and of what it is a part of.
local function asked(fn, name)
  return function(arguments, callback)
    local mine = {}
    shares[#shares + 1] = mine
    local ok, value = pcall(fn, arguments, {
      path = callback and callback.path or name, name = name,
    })
    shares[#shares] = nil
    if not ok then error(value, 0) end
    if not mine.values then return value end
    return {output = value, shared_data = mine.values}
  end
end

-- What does a callback: a function of the workflow, or one that an agent in it has as a tool.
local function function_of(one, callback)
  local fn = one.functions[callback.name]
  if fn then return asked(fn, callback.name) end
  for _, find in next, one.finders do
    fn = find(callback)
    if fn then return fn end
  end
end

-- As above, and what each gave is remembered. A run that was lost with its process may ask again for
-- what was done: that is given again.
local function functions_of(one, memory)
  return function(callback)
    local fn = function_of(one, callback)
    if not fn then return nil end
    local key = (callback.path or "") .. "\0" .. callback.name
    return function(arguments)
      local known = memory.earlier[key]
      memory.earlier[key] = nil
      if not known then
        local ok, value = pcall(fn, arguments, callback)
        known = {ok = ok, value = value}
      end
      memory.done[key] = known
      if not known.ok then error(known.value, 0) end
      return known.value
    end
  end
end

-- events ---------------------------------------------------------------------------------------

local NOTICES = {
  "BeforeWorkflowStage", "AfterWorkflowStage", "WorkflowStageTransition", "WorkflowCheckpoint",
  "WorkflowRollback",
}

local function hears()
  for _, point in next, NOTICES do
    if chain.at[point] then return true end
  end
  return false
end

-- Whether a step is one of the workflow itself, not of a branch, iteration or workflow within.
local function is_own(step) return not find(step.path, "[/#]") end

local function told(step, one)
  return {
    workflow = one.definition.name, workflow_id = one.id, path = step.path, step = step.name,
    type = step.kind, status = step.status and lower(step.status), input = step.input,
    output = step.output, error = step.failure, attempts = step.attempts,
  }
end

-- Fires what the event of a step means. `seen`: what happened before in this execution.
local function fire(event, one, seen)
  local component = {type = "workflow", name = one.definition.name}
  local step = event.step_started
  if step then
    if step.is_compensation and not seen.rolls_back then
      seen.rolls_back = true
      chain.tell("WorkflowRollback", told(step, one), component)
    end
    if seen.last and is_own(step) then
      chain.tell("WorkflowStageTransition", {
        workflow = one.definition.name, workflow_id = one.id, from = seen.last, to = step.path,
      }, component)
    end
    chain.tell("BeforeWorkflowStage", told(step, one), component)
    return
  end
  step = event.step_ended
  if not step then return end
  if is_own(step) then seen.last = step.path end
  chain.tell("AfterWorkflowStage", told(step, one), component)
  -- What a step gave is on disk before its end is told: from here a lost run goes on.
  if step.status == "COMPLETED" then chain.tell("WorkflowCheckpoint", told(step, one), component) end
end

local function log(event, one)
  local step = event.step_started or event.step_ended
  if not step then return end
  debug_log((event.step_started and "begins " or "ended ") .. step.path
    .. (event.step_ended and " " .. lower(step.status) or ""), "workflow." .. one.definition.name)
end

-- Whoever hears of events of this execution; nil: nobody does, and they are not asked for.
local function listener(one, on_event)
  local hooked = hears()
  if not hooked and not on_event and not workflow.is_debugged then return nil end
  local seen = {}
  return function(event)
    if hooked then fire(event, one, seen) end
    if workflow.is_debugged then log(event, one) end
    if on_event then on_event(workflow.event_told(event)) end
  end
end

-- An event as scripts see it: {type, path, time, step or text or tool}.
function workflow.event_told(event)
  local shown = {path = event.path, time = event.time, number = event.number}
  for _, name in next, {
    "text", "tool_started", "tool_ended", "model_answered", "step_started", "step_ended", "retried",
  } do
    local value = event[name]
    if value ~= nil then
      shown.type, shown[match(name, "^%a+")] = name, value
      if type(value) == "table" and value.status then value.status = lower(value.status) end
    end
  end
  return shown
end

-- the whole ------------------------------------------------------------------------------------

local begun = 0

-- The id of a try: a run that goes on after its process was lost asks for the same one again.
local function request_id()
  begun = begun + 1
  return kit.run_id and kit.run_id .. ".workflow." .. kit.tostring(begun) or nil
end

local TRIES_MAX = 20

local function is_lost(raised)
  return kit.is_failure(raised) and rawget(raised, "reason") == "EXECUTION_NOT_FOUND"
end

-- Until it has ended: what was lost with its process goes on under the same request id.
local function tried(one, request, on_event)
  local memory, ok, output = {earlier = {}, done = {}}, nil, nil
  for _ = 1, TRIES_MAX do
    ok, output = pcall(kit.execute, EXECUTE, request, {
      functions = functions_of(one, memory), on_event = listener(one, on_event),
    })
    if ok or not request.request_id or not is_lost(output) then break end
    memory.earlier = {}
    for key, known in next, memory.done do memory.earlier[key] = known end
  end
  return ok, output
end

-- Runs a workflow to its end. `judge` raises where that is a failure, so that hooks see it as one.
function workflow.run(one, request, on_event, judge)
  local component = request.workflow and request.workflow.name or request.name
  local arguments = {
    name = component, workflow = request.workflow, inputs = request.inputs,
    session_id = request.session_id,
  }
  return kit.call(WHOLE, arguments, nil, function(_, args)
    local ok, output = tried(one, {
      workflow = args.workflow, name = not args.workflow and args.name or nil,
      inputs = args.inputs, session_id = args.session_id, request_id = request_id(),
    }, on_event)
    return judge(one, ok, output)
  end)
end
