-- `Hook`: functions of the script around its own calls. They stay in this VM and end with the run.

local kit = ...

local chain, options, required = kit.hook_chain, kit.options, kit.required
local next, type = next, type
local sort, sub = table.sort, string.sub
local setmetatable, raw_metatable, math_type = setmetatable, debug.getmetatable, math.type

local Hook = {}
kit.env.Hook = Hook

local PRIORITIES = {
  highest = -2147483648, high = -100, normal = 0, low = 100, lowest = 2147483647,
}
local TIMEOUT_MS = 5000

-- options --------------------------------------------------------------------------------------

local function priority(value, name)
  if type(value) == "string" and PRIORITIES[value] then return PRIORITIES[value] end
  if math_type(value) == "integer" and value >= PRIORITIES.highest
    and value <= PRIORITIES.lowest then
    return value
  end
  kit.invalid(name, "must be highest, high, normal, low, lowest or a whole number of 32 bits")
end

local function texts(value, name)
  if type(value) == "string" then return kit.list({value}) end
  options.table(value, name)
  for i = 1, #value do options.text(value[i], name .. "[" .. i .. "]") end
  return kit.list(value)
end

local FILTER = {
  component = options.text, name = options.text, tool = options.text, scope = options.text,
  tag = options.text,
}

local BREAKER = {
  failure_threshold = options.count(1), success_threshold = options.count(1),
  window_seconds = options.seconds, open_seconds = options.seconds, slow_ms = options.count(1),
  slow_threshold = options.count(1),
}

local KNOWN = {
  priority = priority, tags = texts, tag = texts, description = options.text,
  timeout_ms = options.count(1, 60000),
  filter = function(value, name) return options.read(value, FILTER, name, true) end,
  breaker = function(value, name) return options.read(value, BREAKER, name, true) end,
}

local function point_of(point)
  if point == nil then required("hook_point") end
  if type(point) ~= "string" then
    kit.invalid("hook_point", "must be text, not a " .. type(point))
  end
  local known, phase = chain.point_of(point)
  if known then return known, phase end
  local near = options.nearest(point, kit.point_phases)
  kit.refuse("FIELD_INVALID", "hook_point", "Unknown hook point: " .. point
    .. (near and "; did you mean " .. near .. "?" or "."), {field = "hook_point", nearest = near})
end

-- handles --------------------------------------------------------------------------------------

local Handle = {__name = "hook", __metatable = false}
local hook_of = setmetatable({}, {__mode = "k"})

local function behind(handle)
  local hook = type(handle) == "table" and raw_metatable(handle) == Handle and hook_of[handle]
  if not hook then kit.invalid("handle", "must be what Hook.register gave") end
  return hook
end

-- handle:id(), handle:hook_point(), handle:unregister(); handle.id() is the same.
local function handle_of(hook)
  local handle = setmetatable({}, Handle)
  hook_of[handle] = hook
  function handle.id() return hook.id end
  function handle.hook_point() return hook.point end
  function handle.unregister() return chain.drop(hook) end
  return handle
end

--| `Hook.register(point, fn, how)`
--- A handle with `:id()`, `:hook_point()`, `:unregister()`. `how` is a priority (`highest`,
--- `high`, `normal`, `low`, `lowest` or a whole number) or a table: `priority`, `filter`, `tags`,
--- `description`, `timeout_ms`, `breaker`. An unknown point raises.
-- Hook.register(point, fn, priority or {priority, filter, tags, description, timeout_ms, breaker}?)
-- → handle. Lower priorities are asked first, equal ones in the order of registration.
Hook.register = kit.either_way(Hook, function(point, fn, given)
  local name, phase = point_of(point)
  if type(fn) ~= "function" then kit.invalid("fn", "must be a function, not a " .. type(fn)) end
  if type(given) ~= "table" then given = {priority = given} end
  local set = options.read(given, KNOWN, "options", true)
  local hook = {
    point = name, fn = fn, priority = set.priority or 0, filter = set.filter,
    tags = set.tags or set.tag or kit.list({}), description = set.description or "",
    timeout_ms = set.timeout_ms or TIMEOUT_MS, breaker = set.breaker, phase = phase,
  }
  chain.add(hook)
  -- The run has begun long ago, so it is told at once, and once.
  if name == "SystemStartup" then
    local others = chain.at.SystemStartup
    chain.at.SystemStartup = {hook}
    chain.tell("SystemStartup", {session_id = kit.session_id})
    chain.at.SystemStartup = others
  end
  return handle_of(hook)
end)

--| `Hook.unregister(handle)`
--- Whether it was registered.
-- Hook.unregister(handle) → whether it was registered.
Hook.unregister = kit.either_way(Hook, function(handle) return chain.drop(behind(handle)) end)

-- lists ----------------------------------------------------------------------------------------

local WANTED = {
  hook_point = point_of, language = options.text, priority = priority, tag = options.text,
}

local function has(list, tag)
  for _, each in next, list do
    if each == tag then return true end
  end
  return false
end

local function ordered()
  local found = {}
  for _, hook in next, chain.by_id do found[#found + 1] = hook end
  sort(found, function(a, b)
    if a.point ~= b.point then return a.point < b.point end
    if a.priority ~= b.priority then return a.priority < b.priority end
    return a.number < b.number
  end)
  return found
end

--| `Hook.list(filter)`
--- All hooks, those of a point, or those that fit `{hook_point, language, priority, tag}`: `id`,
--- `name`, `hook_point`, `priority`, `language`, `version`, `description`, `tags`, `state`.
-- Hook.list(point or {hook_point, language, priority, tag}?) → [{id, name, hook_point, priority,
-- language, version, description, tags, state}], by point and in the order in which they are asked.
Hook.list = kit.either_way(Hook, function(filter)
  if type(filter) == "string" then filter = {hook_point = filter} end
  local wanted, found = options.read(filter, WANTED, "filter", true), {}
  for _, hook in next, ordered() do
    if (not wanted.hook_point or wanted.hook_point == hook.point)
      and (not wanted.language or wanted.language == "lua")
      and (not wanted.priority or wanted.priority == hook.priority)
      and (not wanted.tag or has(hook.tags, wanted.tag)) then
      found[#found + 1] = {
        id = hook.id, name = "lua_" .. hook.id, hook_point = hook.point,
        priority = "Priority(" .. kit.tostring(hook.priority) .. ")", language = "lua",
        version = "1.0.0", description = hook.description, tags = hook.tags,
        state = hook.breaker.state,
      }
    end
  end
  return kit.list(found)
end)

local function told(hook)
  local counts = {}
  for kind, count in next, hook.results do counts[kind] = count end
  return {
    id = hook.id, hook_point = hook.point, calls = hook.calls, failures = hook.failed,
    skipped_by_breaker = hook.left_out, last_error = hook.problem, took_ms = hook.took_ms,
    results = counts,
    breaker = {state = hook.breaker.state, opened_count = hook.breaker.opened_count},
  }
end

--| `Hook.stats(handle)`
--- Counts of one hook, or of all by id: `calls`, `failures`, `results`, `skipped_by_breaker`,
--- `last_error`, `took_ms`, `breaker`. Also `Hook.metrics`.
-- Hook.stats(handle?) → the counts of one hook, or of all by id.
Hook.stats = kit.either_way(Hook, function(handle)
  if handle ~= nil then return told(behind(handle)) end
  local all = {}
  for _, hook in next, ordered() do all[hook.id] = told(hook) end
  return all
end)
Hook.metrics = Hook.stats

-- custom ---------------------------------------------------------------------------------------

local FIRING = {tags = texts, tag = texts}

--| `Hook.fire(name, data, options)`
--- Fires `Custom(name)`; the data as its hooks left them. Options: `tags`.
-- Hook.fire(name, data?, {tags}?) → the data, as the hooks of Custom(name) left them. A hook that
-- cancels makes it an error.
Hook.fire = kit.either_way(Hook, function(name, data, given)
  if name == nil then required("name") end
  options.text(name, "name")
  local known, phase = chain.point_of(name)
  if known and phase ~= "custom" then
    kit.invalid("name", "must not be " .. known .. ", which is fired by what it is named after")
  end
  if known then name = sub(known, 8, -2) end
  local set = options.read(given, FIRING)
  return chain.fire(name, data, set.tags or set.tag)
end)

-- forks ----------------------------------------------------------------------------------------

--| `Hook.join(ids)`
--- What forked operations came to: `id`, `ok`, `result`, `reason`, `message`.
-- Hook.join(ids?) → what the operations of forks came to, waited for: [{id, ok, result, reason,
-- message}], each once.
Hook.join = kit.either_way(Hook, function(ids)
  local answer, found = kit.raw_call("llmspell.runtime.Hooks/Join", {
    ids = ids ~= nil and texts(ids, "ids") or nil,
  }), {}
  for i, one in next, answer.results or {} do
    local failure = not one.ok and one.answer or {}
    found[i] = {
      id = one.id, ok = one.ok, result = one.ok and one.answer or nil, reason = failure.reason,
      message = failure.message,
    }
  end
  return kit.list(found)
end)

--| `Hook.points()`
--- The name of each point and when it is reached.
-- Hook.points() → the names of all points and when each is reached.
Hook.points = kit.either_way(Hook, function()
  local found = {}
  for name, phase in next, kit.point_phases do found[name] = phase end
  return found
end)
