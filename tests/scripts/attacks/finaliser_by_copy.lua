-- expects: held
-- The field is added once the metatable is in use; a copy would set it anew.
local ran = false
local meta = {}
local t = setmetatable({}, meta)
meta.__gc = function() ran = true end
pcall(Utils.copy, t)
pcall(Utils.merge, t, t)
getmetatable = function() return meta end
pcall(Utils.copy, {})
for _ = 1, 1e6 do local _ = {} end
assert(not ran, "a finaliser ran")
return "held"
