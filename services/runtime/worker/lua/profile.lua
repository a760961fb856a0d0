-- Timers and profiles of `Debug`. Time is the host's, so a run that is made again measures the same.

local kit = ...

local json, log, measure = kit.json, kit.log, kit.measure
local error, pcall, setmetatable, type = error, pcall, setmetatable, type
local floor, format = math.floor, string.format
local concat, pack, unpack = table.concat, table.pack, table.unpack
local add, new, summary = measure.add, measure.new, measure.summary
local checked_name, entry_of, names_of = measure.checked_name, measure.entry_of, measure.names_of

local Debug = kit.env.Debug

local EVENTS_MAX = 1000

local counts = {profiles = 0}

-- Name → {samples in ms, laps, events, stack}, of timers that were stopped; for flame graphs those that
-- run are a stack.
local profiles, running, made = {}, {}, 0
local stacks = {}

local function profile_of(name)
  return entry_of(profiles, counts, "profiles", name, function()
    return {samples = new(), laps = {}, events = {}}
  end)
end

local Timer = {__name = "timer", __metatable = false}
Timer.__index = Timer
local states = setmetatable({}, {__mode = "k"})

local function state_of(timer, method)
  local state = type(timer) == "table" and states[timer]
  if not state then error("timer:" .. method .. ": call it with a colon on a timer", 3) end
  return state
end

local function elapsed_ms(state)
  return ((state.stopped or kit.elapsed()) - state.began) * 1000
end

-- timer:stop() → milliseconds since it began, or nil where it was stopped before.
function Timer:stop()
  local state = state_of(self, "stop")
  if state.stopped then return nil end
  state.stopped = kit.elapsed()
  local ms = elapsed_ms(state)
  add(state.profile.samples, ms)
  local path = {}
  for i = 1, #running do
    path[#path + 1] = running[i].name
    if running[i] == state then break end
  end
  local stack = concat(path, ";")
  stacks[stack] = (stacks[stack] or 0) + ms
  for i = #running, 1, -1 do
    if running[i] == state then
      for j = i, #running do running[j] = running[j + 1] end
      break
    end
  end
  return ms
end

-- timer:lap(name) → whether the timer runs still; the time so far is kept under the name.
function Timer:lap(name)
  local state = state_of(self, "lap")
  checked_name(name)
  if state.stopped then return false end
  local laps = state.profile.laps
  if laps[name] == nil and #names_of(laps) >= measure.names_max then return false end
  laps[name] = laps[name] or new()
  add(laps[name], elapsed_ms(state))
  return true
end

-- timer:elapsed() → milliseconds so far, or at its stop.
function Timer:elapsed() return elapsed_ms(state_of(self, "elapsed")) end

local function start(name)
  checked_name(name)
  made = made + 1
  local state = {name = name, profile = profile_of(name), began = kit.elapsed()}
  local timer = setmetatable({id = format("timer_%d", made), name = name}, Timer)
  states[timer] = state
  running[#running + 1] = state
  return timer
end

--| `Debug.timer(name)`
--- A timer that runs: `id`, `:stop()` (ms, or `nil` the second time), `:lap(name)`, `:elapsed()`.
Debug.timer = kit.either_way(Debug, start)

--| `Debug.profile(name, fn, …)`
--- Calls it and keeps how long it took.
Debug.profile = kit.either_way(Debug, function(name, fn, ...)
  if type(fn) ~= "function" then kit.invalid("fn", "must be a function, not a " .. type(fn)) end
  local timer = start(name)
  local results = pack(pcall(fn, ...))
  timer:stop()
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, results.n)
end)

--| `Debug.recordEvent(timer, event, metadata)`
--- A moment of a timer.
Debug.recordEvent = kit.either_way(Debug, function(timer, event, metadata)
  local state = type(timer) == "table" and states[timer]
  local profile = state and state.profile or profiles[checked_name(timer, "timer")]
  if not profile or #profile.events >= EVENTS_MAX then return false end
  local at = state and elapsed_ms(state) or nil
  profile.events[#profile.events + 1] = {
    event = checked_name(event, "event"), at_ms = at, metadata = metadata,
  }
  return true
end)

local function report()
  local timers = {}
  for name, profile in kit.pairs(profiles) do
    local one = summary(profile.samples)
    local laps = {}
    for lap, samples in kit.pairs(profile.laps) do laps[lap] = summary(samples) end
    one.laps, one.events = laps, kit.list(profile.events)
    timers[name] = one
  end
  return {unit = "ms", timers = timers, memory = kit.debug.memory_stats()}
end

--| `Debug.performanceReport()`, `Debug.jsonReport()`
--- Each timer with count, mean, p50, p95, p99, as text and as JSON.
Debug.performanceReport = kit.either_way(Debug, function()
  local all = report()
  local lines = {"timer, count, mean, p50, p95, p99, max (ms)"}
  for _, name in kit.pairs(names_of(all.timers)) do
    local one = all.timers[name]
    if one.count > 0 then
      lines[#lines + 1] = format("%s: %d, %.3f, %.3f, %.3f, %.3f, %.3f", name, one.count, one.mean,
        one.p50, one.p95, one.p99, one.max)
    else
      lines[#lines + 1] = name .. ": running"
    end
    for _, lap in kit.pairs(names_of(one.laps)) do
      local of = one.laps[lap]
      lines[#lines + 1] = format("  lap %s: %d, %.3f, %.3f, %.3f, %.3f, %.3f", lap, of.count, of.mean,
        of.p50, of.p95, of.p99, of.max)
    end
  end
  return concat(lines, "\n")
end)

-- Debug.jsonReport() → the same and more as JSON: {unit, timers = {name = {count, mean, …}}, memory}.
Debug.jsonReport = kit.either_way(Debug, function()
  local ok, text = json.encode(report(), "report")
  if not ok then kit.unfit("report", text) end
  return text
end)

--| `Debug.flameGraph()`
--- A line for each stack of timers with its microseconds.
Debug.flameGraph = kit.either_way(Debug, function()
  local lines = {}
  for stack, ms in kit.pairs(stacks) do
    lines[#lines + 1] = format("%s %d", stack, floor(ms * 1000))
  end
  return concat(lines, "\n")
end)

-- Debug.memorySnapshot() → {timestamp, used_bytes, active_timers, captured_entries}.
Debug.memorySnapshot = kit.either_way(Debug, function()
  local stats = kit.debug.memory_stats()
  return {
    timestamp = kit.now(), used_bytes = stats.used_bytes, active_timers = #running,
    captured_entries = #log.captured(),
  }
end)

--| `Debug.resetTimers()`
--- Forgets what was measured.
Debug.resetTimers = kit.either_way(Debug, function()
  profiles, running, stacks, counts.profiles = {}, {}, {}, 0
end)
