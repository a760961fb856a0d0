"""Scripts that try every result at one point; what is special to the point is put into them."""

HARNESS = """
local report, P = {}, {reset = function() end}
local POINT = ARGS.point
State.save("hx", "k", "v") State.save("hx", "other", "w")
%(case)s
P.see = P.see or function(_, value) return value end

local RESULTS = {
  continue = "continue",
  modified = function(c) return {type = "modified", data = P.data(c)} end,
  cancel = {type = "cancel", reason = "stop"},
  redirect = {type = "redirect", target = P.target or "nowhere"},
  replace = {type = "replace", data = P.answer},
  retry = {type = "retry", delay_ms = 20, max_attempts = 3},
  fork = function()
    return {type = "fork", operations = {{
      id = "f", operation_type = "StateService/SetState",
      parameters = {scope = "custom:forked", key = POINT:gsub("%%W", ""), value = {json = "1"}},
    }}}
  end,
  cache = {type = "cache", key = "hx", ttl = 60},
  skipped = {type = "skipped", reason = "no"},
}

local function try(name)
  local asked, result = 0, RESULTS[name]
  P.reset(name)
  local handle = Hook.register(POINT, function(c)
    asked = asked + 1
    if type(result) == "function" then return result(c) end
    return result
  end)
  local began = os.clock()
  local ok, value = pcall(name == "retry" and P.fail or P.go, name)
  local ms = (os.clock() - began) * 1000
  local again
  if name == "cache" and not P.once then
    if P.change then P.change() end
    local _, second = pcall(P.go, name .. "2")
    again = {value = second, asked = asked}
  end
  local stats = Hook.stats(handle)
  handle:unregister()
  report[name] = {
    ok = ok, value = ok and P.see(name, value) or nil, asked = asked, failures = stats.failures,
    kinds = stats.results, why = stats.last_error, again = again, ms = ms,
    reason = not ok and value.reason or nil, message = not ok and value.message or nil,
  }
  if name == "cache" and P.see_again then report[name].again.value = P.see_again() end
  if name == "fork" then report[name].joined = Hook.join("f") end
end

for _, name in ipairs{
  "continue", "modified", "cancel", "redirect", "replace", "retry", "fork", "skipped", "cache",
} do try(name) end
report.forked = State.load("forked", (POINT:gsub("%%W", "")))
return report
"""

HOST_HARNESS = """
local report, P = {}, {reset = function() end}
State.save("hx", "k", "v") State.save("hx", "other", "w")
%(case)s
P.see = P.see or function(_, value) return value end

-- Reading a key of this scope tells the host's hook what to answer from now on.
local function signal(name) State.load("hx-signal", name) end

local function try(name)
  P.reset(name)
  if P.target then signal("target=" .. P.target) end
  signal(name)
  local began = os.clock()
  local ok, value = pcall(name == "retry" and P.fail or P.go, name)
  local ms = (os.clock() - began) * 1000
  local again
  if name == "cache" then
    if P.change then P.change() end
    local _, second = pcall(P.go, name .. "2")
    again = {value = second}
  end
  signal("off")
  report[name] = {
    ok = ok, value = ok and P.see(name, value) or nil, again = again, ms = ms,
    reason = not ok and value.reason or nil, message = not ok and value.message or nil,
  }
  if name == "cache" and P.see_again then report[name].again.value = P.see_again() end
  if name == "fork" then report[name].joined = Hook.join("f") end
end

for _, name in ipairs{
  "continue", "modified", "cancel", "redirect", "replace", "retry", "fork", "skipped", "cache",
} do try(name) end
report.forked = State.load("forked", (ARGS.point:gsub("%%W", "")))
return report
"""

NOTICE_HARNESS = """
local POINT = ARGS.point
local handles, report = {}, {}
local RESULTS = {
  {"continue", "continue"}, {"modified", {type = "modified", data = {1}}}, {"cancel", "stop"},
  {"redirect", {type = "redirect", target = "x"}}, {"replace", {type = "replace", data = {1}}},
  {"retry", {type = "retry"}}, {"cache", {type = "cache", key = "x"}}, {"skipped", "skip"},
  {"fork", {type = "fork", operations = {{
    id = "f", operation_type = "StateService/SetState",
    parameters = {scope = "custom:forked", key = POINT, value = {json = "1"}},
  }}}},
}
for _, pair in ipairs(RESULTS) do
  handles[pair[1]] = Hook.register(POINT, function(c)
    report[pair[1] .. "_data"] = c.data
    return pair[2]
  end)
end
local function told()
  for name, handle in pairs(handles) do
    local stats = Hook.stats(handle)
    report[name] = {
      asked = stats.calls, failures = stats.failures, kinds = stats.results, why = stats.last_error,
    }
  end
  report.fork.joined = Hook.join("f")
  return report
end
%(case)s
"""
