-- expects: held
local function handler(e) return handler(e) + 1 end
assert(not xpcall(error, handler, "x"))
return "held"
