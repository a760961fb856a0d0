-- expects: SCRIPT_FAILED
-- message: a table value
-- Lua's own words for a value name its kind, never its place.
local t = setmetatable({}, {})
return t + 1
