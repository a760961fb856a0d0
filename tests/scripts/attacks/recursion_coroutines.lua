-- expects: held
local function f() return coroutine.wrap(f)() end
assert(not pcall(f))
return "held"
