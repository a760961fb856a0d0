-- Puts the hooks around every call: `kit.call` becomes one that asks them, which all later parts use.

local kit = ...

local chain, results, points = kit.hook_chain, kit.hook_results, kit.points
local by_code, by_reason = kit.points_by_code, kit.points_by_reason
local error, next, pcall = error, next, pcall
local collectgarbage = collectgarbage

local HOST = "llmspell.runtime.Hooks/"
local REDIRECTS_MAX = 3

local raw = kit.call
kit.raw_call = raw

-- failures -------------------------------------------------------------------------------------

local function cancelled(reason)
  return kit.failure({
    code = "FAILED_PRECONDITION", reason = "HOOK_CANCELLED", message = reason, metadata = {},
  })
end

-- The points that a failure reaches: the method's own, and the one of its kind.
local function error_points(entry, failure)
  local found = {}
  for _, point in next, entry and entry.error or {} do found[#found + 1] = point end
  local other = by_reason[failure.reason] or by_code[failure.code]
  if not other and (failure.code == "PERMISSION_DENIED" or failure.code == "UNAUTHENTICATED") then
    other = "SecurityViolation"
  end
  if other == "StateConflict" and not (entry and entry.component == "state") then other = nil end
  found[#found + 1] = other
  return found
end

-- one call -------------------------------------------------------------------------------------

-- A host that cannot wait, as where a run is made again with other answers, is no reason to fail.
local function pause(seconds)
  if seconds > 0 then pcall(raw, HOST .. "Sleep", {seconds = seconds}) end
end

local function attempt(subject)
  subject.attempts = subject.attempts + 1
  local ok, answer = pcall(subject.perform, subject.method, subject.args, subject.tenant)
  if ok then
    subject.answer, subject.failure = answer, nil
  elseif kit.is_failure(answer) then
    subject.answer, subject.failure = nil, answer
  else
    error(answer, 0)
  end
end

-- The call, as often as a hook before it has asked for.
local function make(subject)
  local most = subject.retry and subject.retry.attempts or 1
  attempt(subject)
  while subject.failure and subject.attempts < most do
    pause(subject.retry.delay_s)
    attempt(subject)
  end
end

-- Whether the call is to be made, after the points before it.
local function begin(entry, subject)
  for _, point in next, entry and entry.before or {} do
    local ending = chain.consult(point, "before", subject)
    if ending and ending.kind == "cancel" then
      subject.failure = cancelled(ending.reason)
      return false
    elseif ending and ending.kind == "replace" then
      return false
    end
  end
  return true
end

-- The result that ends the points after a call, or nil.
local function afterwards(entry, subject)
  local phase = subject.failure and "error" or "after"
  local reached = subject.failure and error_points(entry, subject.failure)
    or entry and entry.after or {}
  for _, point in next, reached do
    local ending = chain.consult(point, phase, subject)
    if ending then return ending end
  end
end

-- Until no hook asks for another attempt. The points are not reached again by a redirected call.
local function settle(entry, subject)
  local ending = afterwards(entry, subject)
  while ending and ending.kind == "retry" do
    if subject.attempts >= ending.attempts then return end
    pause(ending.delay_s)
    attempt(subject)
    ending = afterwards(entry, subject)
  end
  if not ending then return end
  if ending.kind == "cancel" then
    subject.answer, subject.failure = nil, cancelled(ending.reason)
  elseif ending.kind == "redirect" then
    attempt(subject)
  end
end

local function name_of(entry, args)
  if not entry or not args then return nil end
  if entry.component == "event" then
    local first = args.events and args.events[1]
    return first and first.type
  elseif entry.component == "agent" then
    local agent = args.agent or args
    return agent.name or agent.spec and agent.spec.name
  end
  return args[entry.name]
end

local function conduct(method, args, tenant, perform)
  local entry = points[method]
  local subject = {
    method = method, args = args, tenant = tenant, operation = method, attempts = 0,
    perform = perform,
    component = {type = entry and entry.component or "service", name = name_of(entry, args)},
  }
  if begin(entry, subject) then
    make(subject)
    settle(entry, subject)
  end
  if subject.failure then error(subject.failure, 0) end
  local cache = subject.cache
  if cache then results.keep(cache.place, cache.key, subject.answer, cache.expires) end
  return subject.answer
end

-- watching -------------------------------------------------------------------------------------

-- The share of a limit, and the seconds of a call, from which a hook is told.
local SHARE_HIGH, CALL_S_HIGH = 0.8, 1.0
local heap_before = collectgarbage("count") * 1024
local is_high = {}

-- Fires when a share passes its limit, and again only after it was below.
local function cross(point, used, most, unit)
  local over = most and used >= SHARE_HIGH * most or false
  if over and not is_high[point] then
    chain.tell(point, {["used_" .. unit] = used, ["limit_" .. unit] = most})
  end
  is_high[point] = over
end

-- What was measured of the last call and of the run, for the hooks that wait for it.
local function watch(method)
  local limits = kit.run_limits or {}
  local ok, measured = pcall(raw, HOST .. "Measure", {})
  if not ok then return end
  if measured.call_s >= CALL_S_HIGH then
    chain.tell("PerformanceThresholdExceeded", {
      operation = method, elapsed_ms = measured.call_s * 1000, threshold_ms = CALL_S_HIGH * 1000,
    })
  end
  cross("MemoryUsageHigh", kit.memory_bytes() - heap_before, limits.memory_bytes, "bytes")
  cross("CpuUsageHigh", measured.cpu_s, limits.cpu_s, "s")
end

-- the way out ----------------------------------------------------------------------------------

-- Methods whose points have hooks; every method where a hook waits at a point that any may reach.
local listening, listens_to_all, watches = {}, false, false

function chain.on_change()
  local at = chain.at
  listening = {}
  for method, entry in next, points do
    for _, list in next, {entry.before, entry.after, entry.error} do
      for _, point in next, list do
        if at[point] then listening[method] = true end
      end
    end
  end
  listens_to_all = (at.ResourceLimitExceeded or at.SecurityViolation or at.StateConflict) ~= nil
  watches = (at.PerformanceThresholdExceeded or at.MemoryUsageHigh or at.CpuUsageHigh) ~= nil
end

-- Whether the script has hooks that a call of the method would reach.
function kit.is_hooked(method) return (listening[method] or listens_to_all) and true or false end

-- As the call of call.lua, with the script's own hooks around it. `perform` makes the call where it is
-- more than one.
function kit.call(method, args, tenant, perform)
  perform = perform or raw
  if not (listening[method] or listens_to_all or watches) or not chain.listens() then
    return perform(method, args, tenant)
  end
  if not watches then return conduct(method, args, tenant, perform) end
  local ok, answer = pcall(conduct, method, args, tenant, perform)
  watch(method)
  if not ok then error(answer, 0) end
  return answer
end

-- custom points --------------------------------------------------------------------------------

local function fire(name, data, tags, redirects)
  local point = "Custom(" .. name .. ")"
  local subject = {
    data = data, tags = tags, operation = point, attempts = 0,
    component = {type = "custom", name = name},
  }
  local ending
  repeat
    subject.attempts = subject.attempts + 1
    ending = chain.consult(point, "custom", subject)
    local again = ending and ending.kind == "retry" and subject.attempts < ending.attempts
    if again then pause(ending.delay_s) end
  until not again
  if ending and ending.kind == "cancel" then error(cancelled(ending.reason), 0) end
  if ending and ending.kind == "redirect" then
    if redirects >= REDIRECTS_MAX then error(cancelled("it was redirected too often"), 0) end
    return fire(ending.target, subject.data, tags, redirects + 1)
  end
  local cache = subject.cache
  if cache then results.keep(cache.place, cache.key, subject.data, cache.expires) end
  return subject.data
end

-- Fires a custom point; gives what its hooks made of the data.
function chain.fire(name, data, tags)
  return fire(name, results.copy(data), tags, 0)
end

-- the end --------------------------------------------------------------------------------------

local ended = false

-- The run is over, well or not; its hooks may still call. `describe` says what `raised` means.
function kit.at_end(ok, describe, raised)
  if ended or not chain.at.SystemShutdown then return end
  ended = true
  local message, _
  if describe and not ok then _, message = pcall(describe, raised) end
  pcall(chain.tell, "SystemShutdown", {ok = ok, message = kit.tostring(message or "")})
end
