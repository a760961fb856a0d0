-- expects: SCRIPT_FAILED
-- message: cannot be shown
error(setmetatable({}, {__tostring = function() error(setmetatable({}, {__tostring = error})) end}))
