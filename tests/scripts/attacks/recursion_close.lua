-- expects: held
local function f()
  local held <close> = setmetatable({}, {__close = f})
end
pcall(f)
return "held"
