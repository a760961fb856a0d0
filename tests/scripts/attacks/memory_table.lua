-- expects: RUN_MEMORY_LIMIT
local t = {}
for i = 1, 1e12 do t[i] = i end
