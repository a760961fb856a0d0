-- expects: held
-- The refusal is the same for a tenant that is there and one that is not.
local _, there = pcall(State.get, "tenant:victim", "secret")
local _, absent = pcall(State.get, "tenant:nobody-here", "secret")
assert(there.message == absent.message and there.reason == absent.reason)
return "held"
