-- expects: SCRIPT_FAILED
-- message: cannot be shown
error(setmetatable({}, {__tostring = function() return {} end}))
