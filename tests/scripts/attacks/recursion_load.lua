-- expects: held
local function f() return load(f) end
pcall(f)
return "held"
