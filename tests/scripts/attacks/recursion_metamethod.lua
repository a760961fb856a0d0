-- expects: held
local t = setmetatable({}, {})
getmetatable(t).__index = function(s, k) return s[k .. "x"] end
assert(not pcall(function() return t.x end))
return "held"
