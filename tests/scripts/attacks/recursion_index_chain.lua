-- expects: held
-- Tables that look each other up in a circle.
local a, b = {}, {}
setmetatable(a, {__index = b})
setmetatable(b, {__index = a})
assert(not pcall(function() return a.x end))
return "held"
