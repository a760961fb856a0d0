-- expects: held
local t = {}
for _ = 1, 100000 do t = {t} end
local ok, failure = pcall(State.set, "k", t)
assert(not ok and failure.reason == "FIELD_INVALID")
assert(not pcall(JSON.parse, ("["):rep(100000)))
return "held"
