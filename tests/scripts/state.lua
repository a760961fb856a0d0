-- State as scripts see it. The host is the fake of tests/unit/runtime/running.py.

-- What is saved is loaded, whatever JSON can hold.
local values = {
  true, false, 0, -1, 2.5, 3.0, "", "é\n\"", {1, 2, 3}, {a = {b = {}}}, math.maxinteger,
}
for i, value in ipairs(values) do
  State.save("session:s", "k" .. i, value)
  local back = State.load("session:s", "k" .. i)
  assert(JSON.stringify(back) == JSON.stringify(value), JSON.stringify(back))
  assert(math.type(back) == math.type(value))
end

-- Absent is nil, also after nil was saved or the item deleted; deleting twice is fine.
assert(State.load("session:s", "nothing") == nil)
State.save("session:s", "k1", nil)
assert(State.load("session:s", "k1") == nil)
State.delete("session:s", "k2")
State.delete("session:s", "k2")
assert(State.load("session:s", "k2") == nil)

-- Short forms use the global scope; both styles of calling do the same.
State.set("count", 5)
assert(State.get("count") == 5 and State.get("global", "count") == 5)
assert(State:get("count") == 5 and State.load("global", "count") == 5)
State:set("global", "count", 6)
assert(State.get("count") == 6)
State.delete("count")
assert(State.get("count") == nil)

-- The forms old scripts use: a bare kind as scope, a colon at the start of the key.
State.save("custom", ":demo:checkpoint", {step = 2})
assert(State.load("custom", ":demo:checkpoint").step == 2)
assert(State.load("custom", "demo:checkpoint").step == 2)
State.save("workflow", "pipeline:status", "running")
assert(State.load("workflow", "pipeline:status") == "running")
assert(State.load("custom", "pipeline:status") == nil)

-- All keys come, over however many pages, in order.
for i = 1, 7 do State.save("agent:a", "key" .. i, i) end
State.save("agent:a", "other", 1)
local keys = State.list_keys("agent:a")
assert(#keys == 8 and keys[1] == "key1" and keys[8] == "other")
assert(#State.list_keys("agent:a", "key") == 7)
assert(#State.list_keys("agent:none") == 0)

-- By id: what is set is got, under the scope that the id names, and nothing of another id.
for _, kind in ipairs({"workflow", "agent", "tool"}) do
  State[kind .. "_set"]("w-1", "step", {n = 1})
  assert(State[kind .. "_get"]("w-1", "step").n == 1)
  assert(State[kind .. "_get"]("w-2", "step") == nil)
  assert(State.load(kind .. ":w-1", "step").n == 1)
  assert(State[kind .. "_list"]("w-1")[1] == "step" and #State[kind .. "_list"]("w-1") == 1)
  State[kind .. "_set"](State, "w-1", "step", nil)
  assert(State[kind .. "_get"](State, "w-1", "step") == nil)
end

-- Bad arguments are named.
local function refused(part, fn, ...)
  local ok, e = pcall(fn, ...)
  assert(not ok and type(e) == "table", "not refused")
  assert(e.message:find(part, 1, true), e.message)
end
refused("key must be set", State.load, "global", nil)
refused("key must be text", State.set, {}, 1)
refused("ttl must be", State.save, "global", "k", 1, {ttl = 0})
refused("options must be", State.save, "global", "k", 1, 60)
refused("value is a function", State.save, "global", "k", print)
refused("value.a is not a finite number", State.save, "global", "k", {a = 1 / 0})
local circle = {a = {b = {1, 2}}}
circle.a.b[3] = circle.a
local ok, cyclic = pcall(State.save, "global", "k", circle)
assert(not ok and cyclic.reason == "VALUE_CYCLIC" and cyclic.code == "INVALID_ARGUMENT")
assert(cyclic.metadata.path == "value.a.b[3] → value.a", cyclic.metadata.path)
refused("scope must be text", State.save, {}, "k", 1)

return "done"
