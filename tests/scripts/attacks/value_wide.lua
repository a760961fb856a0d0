-- expects: held
local t = {}
for i = 1, 150000 do t[i] = i end
local ok, failure = pcall(State.set, "k", t)
assert(not ok and failure.reason == "FIELD_INVALID")
return "held"
