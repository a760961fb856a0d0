-- expects: RUN_MEMORY_LIMIT
local s = ("x"):rep(1 << 20)
return string.format(("%s"):rep(100), table.unpack((function()
  local t = {} for i = 1, 100 do t[i] = s end return t
end)()))
