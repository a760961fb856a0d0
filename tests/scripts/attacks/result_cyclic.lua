-- expects: SCRIPT_FAILED
-- message: contains itself
local t = {}
t[1] = t
return t
