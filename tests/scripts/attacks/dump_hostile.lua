-- expects: held
local t = setmetatable({}, {__tostring = error, __pairs = error, __index = error, __len = error})
t.t, t[t], t[1] = t, t, print
for _ = 1, 200 do t = {t, [t] = t} end
for _, dump in ipairs{Debug.dump, Debug.dumpCompact, Debug.dumpVerbose} do
  local _, text = pcall(dump, t)
  assert(not tostring(text):find("0x%x%x%x"), "an address")
end
return "held"
