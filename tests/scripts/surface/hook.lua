-- Every function of Hook, on a real deployment.

local seen = {}
local handle = Hook.register("BeforeStateWrite", function(context)
  seen[#seen + 1] = context.point
  return "continue"
end, "high")
assert(handle:id() and handle:hook_point() == "BeforeStateWrite")
State.save("session:surface-hook", "k", 1)
assert(#seen == 1 and seen[1] == "BeforeStateWrite")

local listed = Hook.list("BeforeStateWrite")
assert(#listed >= 1 and listed[1].language == "lua" and #Hook.list{language = "lua"} >= 1)
assert(type(Hook.stats(handle)) == "table" and type(Hook.metrics()) == "table")
assert(type(Hook.points()) == "table")
local fired = Hook.fire("surface", {n = 1})
assert(type(fired) == "table")
assert(type(Hook.join({})) == "table")

-- What a hook says is done.
local stop = Hook.register("BeforeStateWrite", function() return {type = "cancel", reason = "no writes"} end)
assert(not pcall(State.save, "session:surface-hook", "k", 2))
assert(Hook.unregister(stop) and not Hook.unregister(stop))
State.save("session:surface-hook", "k", 3)
assert(State.load("session:surface-hook", "k") == 3)

assert(handle:unregister() and not handle:unregister())
assert(not pcall(Hook.register, "NoSuchPoint", print) and not pcall(Hook.unregister, 5))
State.delete("session:surface-hook", "k")

return "done"
