-- expects: RUN_TIME_LIMIT
-- Moves up everything that a lying length promises.
table.insert(setmetatable({}, {__len = function() return 1 << 40 end}), 1, "x")
