-- expects: held
-- Ids of another tenant's things are ids of nothing.
local ok, session = pcall(Session.get, ARGS.session)
assert(not ok or session == nil)
assert(not pcall(Session.resume, ARGS.session))
local ok, value = pcall(State.get, "session", ARGS.session)
assert(not ok or value == nil)
return "held"
