-- expects: RUN_TIME_LIMIT
local t = {}
for i = 1, 1000 do t[i] = setmetatable({}, {__lt = function() while true do end end}) end
table.sort(t)
