-- expects: held
-- Arguments past the limit of a frame never leave the script.
local ok, failure = pcall(State.set, "k", ("x"):rep(3 << 20))
assert(not ok and failure.reason == "FIELD_INVALID", tostring(failure))
local ok, failure = pcall(State.set, "k", ("x"):rep(1500000))
assert(not ok, "more than a value may have")
return "held"
