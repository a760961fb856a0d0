-- expects: held
local t = {}
t.a = {b = t}
local ok, failure = pcall(State.set, "k", t)
assert(not ok and failure.reason == "VALUE_CYCLIC")
assert(not pcall(JSON.stringify, t))
return "held"
