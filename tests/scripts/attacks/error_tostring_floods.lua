-- expects: RUN_OUTPUT_LIMIT
error(setmetatable({}, {__tostring = function() while true do print(("x"):rep(1000)) end end}))
