-- expects: held
-- Encoding is raw: no metamethod of a script runs in it.
local trap = setmetatable({a = 1}, {
  __index = error, __len = function() return 1 << 40 end, __pairs = error, __tostring = error,
})
State.set("k", trap)
assert(State.get("k").a == 1)
return "held"
