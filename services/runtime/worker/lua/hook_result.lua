-- What a hook gives back, read into {kind, …}, and what hooks see of a call and may put in its place.

local kit = ...

local codec, json, points = kit.codec, kit.json, kit.points
local next, type, gmatch, match = next, type, string.gmatch, string.match

local results = {}
kit.hook_results = results

local DELAY_MS, ATTEMPTS, TTL_S = 1000, 3, 300
local ATTEMPTS_MAX, DELAY_MS_MAX, OPERATIONS_MAX = 10, 60000, 8

-- reading --------------------------------------------------------------------------------------

local function words(text)
  local set = {}
  for word in gmatch(text, "%S+") do set[word] = true end
  return set
end

-- By when the point is reached: what a hook there can mean. All else is a failure of the hook.
local ALLOWED = {
  before = words("continue modified cancel redirect replace retry fork cache skipped"),
  after = words("continue modified cancel redirect replace retry fork cache skipped"),
  error = words("continue modified cancel redirect replace retry fork skipped"),
  custom = words("continue modified cancel redirect replace retry fork cache skipped"),
  notice = words("continue fork skipped"),
}

local function whole(value, otherwise, least, most)
  if value == nil then return otherwise end
  if type(value) ~= "number" or not (value >= least and value <= most) then return nil end
  return value
end

local READERS = {}

function READERS.continue() return {kind = "continue"} end

function READERS.skipped(given) return {kind = "skipped", reason = given.reason} end

READERS.skip = READERS.skipped

function READERS.modified(given)
  if given.data == nil then return nil, "modified needs data" end
  return {kind = "modified", data = given.data}
end

function READERS.replace(given)
  if given.data == nil then return nil, "replace needs data" end
  return {kind = "replace", data = given.data}
end

function READERS.cancel(given)
  local reason = given.reason == nil and "cancelled" or given.reason
  if type(reason) ~= "string" then return nil, "cancel's reason must be text" end
  return {kind = "cancel", reason = reason}
end

function READERS.redirect(given)
  local kind = type(given.target)
  if kind ~= "string" and kind ~= "table" then return nil, "redirect needs a target" end
  return {kind = "redirect", target = given.target}
end

function READERS.retry(given)
  local delay_ms = whole(given.delay_ms, DELAY_MS, 0, DELAY_MS_MAX)
  local attempts = whole(given.max_attempts, ATTEMPTS, 1, ATTEMPTS_MAX)
  if not delay_ms then return nil, "retry's delay_ms must be 0 to " .. DELAY_MS_MAX end
  if not attempts then return nil, "retry's max_attempts must be 1 to " .. ATTEMPTS_MAX end
  return {kind = "retry", delay_s = delay_ms / 1000, attempts = attempts}
end

function READERS.cache(given)
  local ttl_s = whole(given.ttl_seconds or given.ttl, TTL_S, 0, 86400)
  if type(given.key) ~= "string" then return nil, "cache needs a key that is text" end
  if not ttl_s then return nil, "cache's ttl must be 0 to 86400 seconds" end
  return {kind = "cache", key = given.key, ttl_s = ttl_s}
end

local function operation_of(given, number)
  if type(given) ~= "table" then return nil, "is no table" end
  local kind, parameters = given.operation_type, given.parameters or {}
  if type(kind) ~= "string" or type(parameters) ~= "table" then
    return nil, "needs operation_type and parameters"
  end
  local id = given.id == nil and kit.tostring(number) or given.id
  if type(id) ~= "string" then return nil, "has an id that is no text" end
  if kind == "tool" then
    local name = parameters.name or parameters.tool
    local inner = parameters.arguments or parameters.parameters
    return {id = id, method = "llmspell.v1.ToolService/ExecuteTool",
      args = {name = name, arguments = inner}}
  end
  if not match(kind, "^%a+/%a+$") then return nil, "must be tool or Service/Method" end
  return {id = id, method = "llmspell.v1." .. kind, args = parameters}
end

function READERS.fork(given)
  local list = given.operations or given.parallel_operations
  if type(list) ~= "table" or #list < 1 or #list > OPERATIONS_MAX then
    return nil, "fork needs 1 to " .. OPERATIONS_MAX .. " operations"
  end
  local operations = kit.list({})
  for i = 1, #list do
    local operation, wrong = operation_of(list[i], i)
    if not operation then return nil, "operation " .. i .. " " .. wrong end
    operations[i] = operation
  end
  return {kind = "fork", operations = operations}
end

local CONTINUE = {kind = "continue"}

local function read(value)
  if value == nil or value == "continue" or value == true then return CONTINUE end
  if value == "skip" or value == "skipped" then return {kind = "skipped"} end
  if type(value) == "string" then return {kind = "cancel", reason = value} end
  if type(value) ~= "table" then return nil, "a hook's result cannot be a " .. type(value) end
  local reader = READERS[value.type]
  if not reader then return nil, "a hook's result needs a known type" end
  return reader(value)
end

-- The result and nil, or nil and what is wrong: it has no meaning at all, or none in this phase.
function results.read(value, phase)
  local result, wrong = read(value)
  if not result then return nil, wrong end
  if not ALLOWED[phase][result.kind] then
    return nil, result.kind .. " has no meaning where " .. results.WHERE[phase]
  end
  return result
end

results.WHERE = {
  before = "a call is to be made", after = "a call was answered", error = "a call has failed",
  custom = "a script fires", notice = "something is only told",
}

-- copies ---------------------------------------------------------------------------------------

-- A copy of a tree by way of its bytes, so that nothing a hook does to what it is shown happens to
-- the call; nil and what is wrong with a value that could not travel.
local function copy(value)
  local ok, bytes, cycle = codec.encode(value, "data")
  if not ok then return nil, bytes, cycle end
  return codec.decode(bytes)
end

-- For what the script itself gave: raises where it could not travel.
function results.copy(value)
  local twin, wrong, cycle = copy(value)
  if wrong then kit.unfit("data", wrong, cycle) end
  return twin
end

-- views ----------------------------------------------------------------------------------------

local function plain(payload)
  if type(payload) ~= "table" then return payload end
  if payload.json == nil then return payload.text or payload.raw end
  local ok, value = json.decode(payload.json)
  if ok then return value end
end

local function payload_of(value, before)
  local ok, document = json.encode(value, "data", true)
  if not ok then return nil, document end
  return {json = document, sensitive = type(before) == "table" and before.sensitive or nil}
end

local SHOW, TAKE = {}, {}

local function method(service, name) return "llmspell.v1." .. service .. "/" .. name end

-- A value that is written is shown as the script gave it.
SHOW[method("StateService", "SetState")] = function(args)
  args.value = plain(args.value)
  return args
end

TAKE[method("StateService", "SetState")] = function(data, args)
  local wrong
  data.value, wrong = payload_of(data.value, args.value)
  return data, wrong
end

-- Events are shown with their data; `json` is how those travel.
SHOW[method("EventService", "PublishEvents")] = function(args)
  for _, event in next, args.events or {} do
    event.data, event.json = plain(event), nil
  end
  return args
end

TAKE[method("EventService", "PublishEvents")] = function(data)
  if type(data.events) ~= "table" then return nil, "data.events must be a list" end
  for _, event in next, data.events do
    if type(event) ~= "table" then return nil, "an event must be a table" end
    local payload, wrong = payload_of(event.data)
    if wrong then return nil, wrong end
    event.data, event.json = nil, payload.json
  end
  kit.list(data.events)
  return data
end

-- A value that was read is shown as `value`.
local function show_item(answer)
  local item = answer.item or {}
  return {
    value = plain(item.value), key = item.key, scope = answer.scope or item.scope,
    revision = item.revision or answer.revision,
  }
end

local function take_item(data, args)
  if data.value == nil then return {revision = data.revision} end
  local payload, wrong = payload_of(data.value)
  if wrong then return nil, wrong end
  return {
    scope = data.scope, revision = data.revision,
    item = {key = data.key or args.key, value = payload, revision = data.revision},
  }
end

local SHOW_ANSWER, TAKE_ANSWER = {}, {}
for _, name in next, {"GetState", "ResolveState"} do
  SHOW_ANSWER[method("StateService", name)] = show_item
  TAKE_ANSWER[method("StateService", name)] = take_item
end

local function shown(subject, phase)
  if phase == "before" then
    local args, show = results.copy(subject.args or {}), SHOW[subject.method]
    return show and show(args) or args
  elseif phase == "after" then
    local answer, show = results.copy(subject.answer or {}), SHOW_ANSWER[subject.method]
    return show and show(answer) or answer
  elseif phase == "error" then
    local failure = subject.failure
    return {
      code = failure.code, reason = failure.reason, message = failure.message,
      metadata = results.copy(failure.metadata), arguments = shown(subject, "before"),
    }
  end
  return results.copy(subject.data)
end

-- What a hook is shown of a call.
results.shown = shown

-- putting --------------------------------------------------------------------------------------

-- Puts data in the place of the arguments; gives what is wrong with them.
function results.put_arguments(subject, data)
  if type(data) ~= "table" then return "data must be a table of arguments" end
  local take, wrong = TAKE[subject.method], nil
  data, wrong = copy(data)
  if data and take then data, wrong = take(data, subject.args) end
  if not wrong then subject.args = data end
  return wrong
end

-- Puts data in the place of the answer, or of the error.
function results.put_answer(subject, data)
  if type(data) ~= "table" then return "data must be a table, as the answer is" end
  local take, wrong = TAKE_ANSWER[subject.method], nil
  data, wrong = copy(data)
  if data and take then data, wrong = take(data, subject.args) end
  if not wrong then subject.answer, subject.failure = data, nil end
  return wrong
end

-- Puts another text in the place of an error's; its reason stays.
function results.put_message(subject, data)
  local message = type(data) == "table" and data.message or data
  if type(message) ~= "string" then return "data must be a text, or a table with a message" end
  local failure = subject.failure
  subject.failure = kit.failure({
    code = failure.code, reason = failure.reason, message = message, metadata = failure.metadata,
  })
end

-- Puts another target of the same kind in the place of the arguments' own.
function results.put_target(subject, target)
  local entry = points[subject.method]
  local field = entry and entry.target
  if not field then return "there is no other target of such a call" end
  local given = type(target) == "table" and target or {[field] = target}
  local args = results.copy(subject.args or {})
  for name, value in next, given do
    if type(value) ~= "string" or (name ~= field and name ~= "scope") then
      return "a target here is a text, or a table of " .. field .. " and scope"
    end
    if entry.component == "event" and name == "type" then
      for _, event in next, args.events or {} do event.type = value end
    elseif name == "agent" then
      args.agent = {name = value}
    else
      args[name] = value
    end
  end
  subject.args = args
end

-- caching --------------------------------------------------------------------------------------

local ENTRIES_MAX = 1000
local kept, count = {}, 0

-- Answers are kept as bytes: whoever is given one may do with it what it likes.
function results.keep(place, key, value, expires)
  local ok, bytes = codec.encode(value, "answer")
  if not ok then return end
  if count >= ENTRIES_MAX then kept, count = {}, 0 end
  local name = place .. "\0" .. key
  if not kept[name] then count = count + 1 end
  kept[name] = {bytes = bytes, expires = expires}
end

-- Whether there is one, and it.
function results.kept(place, key, now)
  local one = kept[place .. "\0" .. key]
  if not one or one.expires <= now then return false end
  return true, codec.decode(one.bytes)
end

results.ATTEMPTS_MAX = ATTEMPTS_MAX
