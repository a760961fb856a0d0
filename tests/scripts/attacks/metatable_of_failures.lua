-- expects: held
-- Errors of the host are shared by nobody and cannot be changed.
local _, failure = pcall(State.get, {})
assert(getmetatable(failure) == false or getmetatable(failure) == nil)
assert(not pcall(setmetatable, failure, {}))
return "held"
