-- expects: RUN_TIME_LIMIT
-- What looks a global up from outside would hang with it.
setmetatable(_G, {__index = function() while true do end end})
State.get("k")
return nothing
