-- expects: held
-- Poisoned for this script, so for nobody else.
assert(getmetatable("") == nil)
string.rep, string.find, string.format = nil, error, function() return "%p" end
assert(not pcall(function() return ("x"):rep(2) end))
State.set("poisoned", 1)
assert(State.get("poisoned") == 1)
assert(tostring(print) == "function")
return "held"
