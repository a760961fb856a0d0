-- expects: held
local t = setmetatable({}, {__tostring = function(s) return tostring(s) end})
assert(not pcall(tostring, t))
return "held"
