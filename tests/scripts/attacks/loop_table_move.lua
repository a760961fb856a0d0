-- expects: RUN_TIME_LIMIT
table.move(setmetatable({}, {__index = function() end}), 1, 1 << 40, 2)
