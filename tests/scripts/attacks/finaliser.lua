-- expects: held
-- A finaliser would run at a moment nobody chooses.
local ran = false
assert(not pcall(setmetatable, {}, {__gc = function() while true do end end}))
local meta = {}
local t = setmetatable({}, meta)
meta.__gc = function() ran = true end
t = nil
for _ = 1, 1e6 do local _ = {} end
assert(not ran, "a finaliser ran")
return "held"
