-- expects: held
-- The field is asked for raw, so it cannot be hidden behind __index.
local ran = false
local meta = setmetatable({}, {__index = {__gc = function() ran = true end}})
setmetatable({}, meta)
for _ = 1, 1e6 do local _ = {} end
assert(not ran, "a finaliser ran")
return "held"
