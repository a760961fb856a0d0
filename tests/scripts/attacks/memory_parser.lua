-- expects: RUN_MEMORY_LIMIT, held
local t = {}
for i = 1, 1000 do t[i] = load("return {" .. ("1.5,"):rep(60000) .. "}") end
return "held"
