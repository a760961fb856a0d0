-- expects: held
-- The bridge is no value that a script can find.
local seen, found = {}, {}
local function walk(value, depth)
  local kind = type(value)
  if kind == "userdata" or kind == "thread" then found[#found + 1] = kind end
  if kind ~= "table" or seen[value] or depth > 20 then return end
  seen[value] = true
  for key, inner in next, value do walk(key, depth + 1) walk(inner, depth + 1) end
  walk(getmetatable(value), depth + 1)
end
walk(_G, 0)
walk({pcall(State.get, {})}, 0)
walk({pcall(State.load, "tenant:x", "k")}, 0)
assert(#found == 0, table.concat(found, " "))
return "held"
