-- A breaker for each hook: who fails or is slow too often is left out for a while, then tried.
-- Slowness is counted in VM instructions, not seconds, so that a replay decides the same.

local kit = ...

local remove = table.remove

local breaker = {}
kit.hook_breaker = breaker

local FAILURES, SUCCESSES, WINDOW_S, OPEN_S, SLOW_MS, SLOW_TIMES = 3, 2, 30, 15, 50, 2

-- Seconds since the run began, asked of the host; only where a hook has failed, was slow or waits.
function breaker.now() return kit.elapsed() end

function breaker.new(given)
  given = given or {}
  return {
    state = "closed", failures = {}, slow = {}, successes = 0, opened_at = 0, opened_count = 0,
    failure_threshold = given.failure_threshold or FAILURES,
    success_threshold = given.success_threshold or SUCCESSES,
    window_s = given.window_seconds or WINDOW_S, open_s = given.open_seconds or OPEN_S,
    slow_ms = given.slow_ms or SLOW_MS, slow_threshold = given.slow_threshold or SLOW_TIMES,
  }
end

-- Whether the hook may run; an open breaker becomes half open when its time is over.
function breaker.lets(one)
  if one.state ~= "open" then return true end
  if breaker.now() - one.opened_at < one.open_s then return false end
  one.state, one.successes = "half_open", 0
  return true
end

local function open(one)
  one.state, one.opened_at, one.opened_count = "open", breaker.now(), one.opened_count + 1
  one.failures, one.slow = {}, {}
  return true
end

-- Notes a moment in a list of those within the window; gives how many there are.
local function note(one, moments)
  local now = breaker.now()
  while moments[1] and now - moments[1] >= one.window_s do remove(moments, 1) end
  moments[#moments + 1] = now
  return #moments
end

-- Both give whether the breaker has opened now.

function breaker.failed(one)
  if one.state == "half_open" then return open(one) end
  return note(one, one.failures) >= one.failure_threshold and open(one)
end

function breaker.succeeded(one, took_ms)
  if took_ms >= one.slow_ms then
    if one.state == "half_open" then return open(one) end
    return note(one, one.slow) >= one.slow_threshold and open(one)
  end
  if one.state == "half_open" then
    one.successes = one.successes + 1
    if one.successes >= one.success_threshold then one.state = "closed" end
  end
  return false
end
