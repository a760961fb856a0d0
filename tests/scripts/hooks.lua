-- Hook: order, filters, handles, lists, breakers, recursion, limits. Points × results have tests of
-- their own.

local function raises(reason, fn, ...)
  local ok, problem = pcall(fn, ...)
  assert(not ok and problem.reason == reason, not ok and tostring(problem))
  return problem
end

-- order: lower first, names and numbers, equal ones as registered
local order = {}
local function noting(word) return function() order[#order + 1] = word end end
local handles = {}
for _, pair in ipairs{
  {"e", "lowest"}, {"c", "normal"}, {"d", 7}, {"b", "high"}, {"a", "highest"}, {"c2", 0},
} do
  handles[#handles + 1] = Hook.register("Custom(order)", noting(pair[1]), pair[2])
end
Hook.fire("order")
assert(table.concat(order, " ") == "a b c c2 d e", table.concat(order, " "))

-- lists and handles, with a dot and with a colon
local listed = Hook.list("Custom(order)")
assert(#listed == 6 and listed[1].priority == "Priority(-2147483648)", listed[1].priority)
assert(listed[1].language == "lua" and listed[1].version == "1.0.0" and listed[1].state == "closed")
assert(#Hook:list{priority = "high"} == 1 and #Hook.list{hook_point = "custom:order"} == 6)
assert(#Hook.list{language = "lua"} == 6 and #Hook.list{language = "rust"} == 0)
assert(handles[1]:id() == handles[1].id() and handles[1].hook_point() == "Custom(order)")
assert(Hook.unregister(handles[1]) and not handles[1]:unregister() and not Hook:unregister(handles[1]))
for i = 2, 6 do assert(handles[i].unregister()) end
assert(#Hook.list() == 0)

-- what is refused
assert(raises("FIELD_INVALID", Hook.register, "BeforeNothing", print).message:find("Unknown hook point"))
raises("FIELD_REQUIRED", Hook.register)
raises("FIELD_INVALID", Hook.register, 5, print)
raises("FIELD_INVALID", Hook.register, "Custom(x)", "no function")
raises("FIELD_INVALID", Hook.register, "Custom(x)", print, "urgent")
raises("FIELD_INVALID", Hook.register, "Custom(x)", print, 2 ^ 40)
raises("FIELD_INVALID", Hook.register, "Custom(x)", print, {priorty = 1})
raises("FIELD_INVALID", Hook.register, "Custom(x)", print, {filter = {scop = "x"}})
raises("FIELD_INVALID", Hook.register, "Custom(x)", print, {timeout_ms = 0})
raises("FIELD_INVALID", Hook.unregister, {})
raises("FIELD_INVALID", Hook.unregister, "hook_1")
raises("FIELD_INVALID", Hook.stats, {})
raises("FIELD_INVALID", Hook.fire, "BeforeStateRead")
raises("FIELD_REQUIRED", Hook.fire)
assert(Hook.points().BeforeStateRead == "before")

-- the context
local seen
local handle = Hook.register("BeforeStateWrite", function(context)
  seen = context
  assert(context.data.value.a == 1 and context.data.scope == "custom:s" and context.data.key == "k")
  context.data.value.a = 2 -- a copy: nothing comes of it
end, {tags = {"t"}, description = "d"})
State.save("s", "k", {a = 1})
assert(State.load("s", "k").a == 1)
assert(seen.point == "BeforeStateWrite" and seen.operation == "llmspell.v1.StateService/SetState")
assert(seen.component_id.type == "state" and seen.component_id.name == "custom:s")
assert(seen.language == "lua" and seen.metadata.phase == "before" and seen.timestamp > 1.7e9)
assert(seen.parent_context == nil and Hook.list{tag = "t"}[1].description == "d")
handle:unregister()

-- filters
local count = 0
local function counting() count = count + 1 end
local filtered = {
  Hook.register("BeforeStateWrite", counting, {filter = {scope = "custom:s*"}}),
  Hook.register("BeforeStateWrite", counting, {filter = {component = "tool"}}),
  Hook.register("BeforeStateWrite", counting, {filter = {component = "state", name = "custom:s"}}),
  Hook.register("BeforeStateWrite", counting, {filter = {tool = "*"}}),
  Hook.register("Custom(tagged)", counting, {filter = {tag = "a*"}}),
}
State.save("s", "k", 1)
assert(count == 2, count)
State.save("other", "k", 1)
assert(count == 2, count)
Hook.fire("tagged", nil, {tags = {"b"}})
Hook.fire("tagged", nil, {tags = {"b", "abc"}})
assert(count == 3, count)
for _, one in ipairs(filtered) do one:unregister() end

-- a hook is not asked inside itself, and hooks inside hooks are asked three levels deep
local depths = {}
local nested = {}
for i = 1, 5 do
  nested[i] = Hook.register("BeforeStateRead", function(context)
    local level = 0
    while context do level, context = level + 1, context.parent_context end
    depths[level] = (depths[level] or 0) + 1
    State.load("k")
  end, i)
end
State.load("k")
assert(depths[1] == 5 and depths[2] == 20 and depths[3] == 60 and not depths[4])
for _, one in ipairs(nested) do one:unregister() end

-- a hook that fails is left out after the third time, told, and tried again after its time
local told = {}
local teller = Hook.register("EventHandlerError", function(context) told[#told + 1] = context.data end)
local broken = true
local failing = Hook.register("Custom(f)", function()
  if broken then error("boom") end
end, {breaker = {open_seconds = 0.05}})
for _ = 1, 5 do assert(Hook.fire("f", "data") == "data") end
local stats = failing and Hook.stats(failing)
assert(stats.calls == 3 and stats.failures == 3 and stats.skipped_by_breaker == 2)
assert(stats.breaker.state == "open" and stats.breaker.opened_count == 1)
assert(stats.last_error:find("boom") and #told == 3 and told[1].hook_point == "Custom(f)")
broken = false
local from = os.clock()
while os.clock() - from < 0.06 do State.load("k") end
Hook.fire("f")
assert(Hook.stats(failing).breaker.state == "half_open")
Hook.fire("f")
assert(Hook.metrics(failing).breaker.state == "closed")
teller:unregister()

-- what a hook gives must have a meaning
local given
local odd = Hook.register("Custom(odd)", function() return given end, {breaker = {failure_threshold = 99}})
for number, value in ipairs{
  false, 5, {}, {type = "what"}, {type = "modified"}, {type = "replace"}, {type = "redirect"},
  {type = "cancel", reason = 5}, {type = "retry", max_attempts = 11}, {type = "retry", delay_ms = -1},
  {type = "cache"}, {type = "cache", key = "k", ttl = -1}, {type = "fork"},
  {type = "fork", operations = {}}, {type = "fork", operations = {{operation_type = "x"}}},
  {type = "modified", data = print}, {type = "redirect", target = {}},
} do
  given = value
  assert(Hook.fire("odd", number) == number)
  assert(Hook.stats(odd).failures == number, number)
end

-- and looking at it, or at what was raised, breaks no call either
given = setmetatable({}, {__index = function() error("looked at") end})
assert(Hook.fire("odd", 1) == 1 and Hook.stats(odd).last_error:find("looked at"))
given = {type = "fork", operations = setmetatable({}, {__len = function() error("counted") end})}
assert(Hook.fire("odd", 1) == 1 and Hook.stats(odd).last_error:find("counted"))
local wicked = Hook.register("Custom(wicked)", function()
  local _, problem = pcall(State.load, {})
  problem.message = setmetatable({}, {__tostring = function() error("shown") end})
  error(problem)
end)
assert(Hook.fire("wicked", 1) == 1 and Hook.stats(wicked).last_error == "it raised a table")
assert(#Hook.join() == 0)

-- slow hooks are left out, endless ones are stopped, and none can yield
local slow = Hook.register("Custom(slow)", function()
  local n = 0
  for i = 1, 12000000 do n = n + i end
end)
for _ = 1, 3 do Hook.fire("slow") end
assert(Hook.stats(slow).breaker.state == "open" and Hook.stats(slow).calls == 2)
local endless = Hook.register("Custom(endless)", function() while true do end end, {timeout_ms = 20})
Hook.fire("endless")
assert(Hook.stats(endless).last_error:find("longer than 20 ms"))
local yielding = Hook.register("Custom(yield)", function() coroutine.yield() end)
assert(coroutine.wrap(function() Hook.fire("yield") return "through" end)() == "through")
assert(Hook.stats(yielding).failures == 1)

-- hooks may come and go while they are asked
local late = 0
Hook.register("Custom(late)", function()
  Hook.register("Custom(late)", function() late = late + 1 end)
end)
Hook.fire("late")
assert(late == 0)
Hook.fire("late")
assert(late == 1)

-- redirects end
Hook.register("Custom(ping)", function() return {type = "redirect", target = "pong"} end)
Hook.register("Custom(pong)", function() return {type = "redirect", target = "ping"} end)
assert(raises("HOOK_CANCELLED", Hook.fire, "ping").message:find("too often"))

-- a run has room for a thousand
local many = #Hook.list()
for _ = many + 1, 1000 do Hook.register("Custom(many)", print) end
assert(raises("LIMIT_EXCEEDED", Hook.register, "Custom(many)", print).message:find("1000"))
return "done"
