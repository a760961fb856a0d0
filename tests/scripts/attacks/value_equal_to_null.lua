-- expects: held
-- A table that claims to be equal to anything is asked for its opinion by nobody.
local liar = setmetatable({a = 1}, {__eq = function() while true do end end})
State.set("liar", liar)
assert(State.get("liar").a == 1)
assert(JSON.stringify({liar}) == '[{"a":1}]')
pcall(JSON.query, liar, ".a")
pcall(Debug.dump, liar)
pcall(Utils.copy, liar)
pcall(Utils.equals, liar, {a = 1})
pcall(State.set, liar, liar)
return "held"
