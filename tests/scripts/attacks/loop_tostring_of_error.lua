-- expects: RUN_TIME_LIMIT
-- The report of an error asks the error for its text.
error(setmetatable({}, {__tostring = function() while true do end end}))
