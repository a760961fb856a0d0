-- expects: SCRIPT_FAILED
-- A failure's fields are the script's own to change; the report stays text.
local _, failure = pcall(State.get, {})
failure.reason = setmetatable({}, {__tostring = function() return ("x"):rep(1 << 20) end})
failure.message = failure
error(failure)
