-- expects: held
local function f() table.sort({3, 2, 1}, f) end
assert(not pcall(f))
return "held"
