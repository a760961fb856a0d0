-- expects: SCRIPT_FAILED
local t = setmetatable({}, {})
getmetatable(t).__index = t
t.message = t
error(t)
