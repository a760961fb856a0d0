-- expects: RUN_MEMORY_LIMIT
local t = {}
for i = 1, 100000 do t[i] = ("x"):rep(1000) end
return table.concat(t, ("y"):rep(1000))
