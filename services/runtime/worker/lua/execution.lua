-- What an agent or a workflow does in the host while the script waits. It answers in pieces: with what
-- it has come to, or with what the script itself must do before it goes on. Only unary calls cross,
-- so a run's journal has every piece, and a run that is made again gets the same ones.

local kit = ...

local codec, raw = kit.codec, kit.raw_call
local error, next, pcall, rawget, type = error, next, pcall, rawget, type

local CONTINUE = "llmspell.v1.ExecutionService/ContinueExecution"
local CANCEL = "llmspell.v1.ExecutionService/CancelExecution"
local EXECUTE_TOOL = "llmspell.v1.ToolService/ExecuteTool"
-- How long one answer may be waited for, and the first one where its events are to come at once.
local WAIT_S, FIRST_WAIT_S = 60, 0.01
-- How long events are gathered for one answer: at first so long, then each time a little longer.
local GATHER_S, GATHER_GROWTH, GATHER_S_MAX = 0.02, 1.05, 1.0

local NO_MEMORY, MESSAGE_BYTES_MAX = "not enough memory", 4096

-- What was raised, as the contract tells it.
local function failure_of(raised)
  if raised == NO_MEMORY then error(raised, 0) end
  if not kit.is_failure(raised) then
    local ok, message = pcall(kit.describe, raised)
    if not ok or type(message) ~= "string" then message = "it raised what cannot be shown" end
    return {message = kit.clean(message, MESSAGE_BYTES_MAX)}
  end
  local failure = {
    reason = kit.clean(kit.tostring(rawget(raised, "reason") or ""), MESSAGE_BYTES_MAX),
    message = kit.clean(kit.tostring(rawget(raised, "message") or ""), MESSAGE_BYTES_MAX),
    metadata = {},
  }
  for name, value in next, rawget(raised, "metadata") or {} do
    if type(name) == "string" and type(value) == "string" then failure.metadata[name] = value end
  end
  return failure
end

-- A tool goes the way of `Tool.execute`, so that the script's own hooks are asked; the whole answer
-- goes back.
local function execute_tool(callback, session_id)
  return kit.call(EXECUTE_TOOL, {
    name = callback.name, arguments = callback.arguments or {}, session_id = session_id,
  })
end

local function function_of(callback, functions)
  local found
  if type(functions) == "function" then found = functions(callback)
  else found = functions[callback.name] end
  if found then return found end
  error("the script has no function " .. kit.tostring(callback.name), 0)
end

local function perform(callback, functions, session_id)
  if callback.kind == "TOOL" then return execute_tool(callback, session_id) end
  return function_of(callback, functions)(callback.arguments or {}, callback)
end

local function result_of(callback, functions, session_id)
  local ok, value = pcall(perform, callback, functions, session_id)
  if ok and value ~= nil then
    -- What cannot travel is the function's mistake, not the end of what waits for it.
    local fits, wrong = codec.encode(value, "result")
    if not fits then ok, value = false, wrong .. "." end
  end
  if ok then return {callback_id = callback.callback_id, value = value} end
  return {callback_id = callback.callback_id, failure = failure_of(value)}
end

local function results_of(callbacks, functions, session_id)
  local results = kit.list({})
  for i = 1, #callbacks do results[i] = result_of(callbacks[i], functions, session_id) end
  return results
end

-- A stream is told in ever larger pieces, or a long one would use up the calls that a run may make.
local function gather_s(number)
  local seconds = GATHER_S * GATHER_GROWTH ^ number
  return seconds < GATHER_S_MAX and seconds or GATHER_S_MAX
end

local function follow(progress, given, session_id)
  local number = 0
  while true do
    for _, event in next, given.on_event and progress.events or {} do given.on_event(event) end
    if progress.done then return progress.agent or progress.workflow end
    number = number + 1
    progress = raw(CONTINUE, {
      execution_id = progress.execution_id, wait = WAIT_S, with_events = given.on_event ~= nil,
      gather = given.on_event and gather_s(number) or nil,
      results = results_of(progress.callbacks or {}, given.functions or {}, session_id),
    }).progress
  end
end

local function drive(method, request, given)
  request.wait = given.on_event and FIRST_WAIT_S or WAIT_S
  request.with_events = given.on_event ~= nil
  request.caller_executes_tools = kit.is_hooked(EXECUTE_TOOL) or nil
  local progress = raw(method, request).progress
  local ok, output = pcall(follow, progress, given, request.session_id)
  if ok then return output end
  pcall(raw, CANCEL, {execution_id = progress.execution_id})
  error(output, 0)
end

-- Begins what `method` executes and stays with it to its end; gives its output or raises. `given`:
-- `functions`, what the script offers (name → function of the arguments and the callback; or a function
-- that gives one for a callback), and `on_event`, told of each event as it comes. The script's hooks
-- around `method` see the request as arguments and the output as answer.
function kit.execute(method, request, given)
  given = given or {}
  return kit.call(method, request, nil, function(which, arguments)
    return drive(which, arguments, given)
  end)
end
