-- expects: held
for _, key in ipairs{
  "../secret", "/secret", "global\0secret", "victim\0global\0secret", "secret\0", "*", "%", "",
} do
  local ok, value = pcall(State.get, key)
  assert(not ok or value == nil, key)
end
local ok, keys = pcall(State.list_keys, "global", "\xff")
assert(not ok or #keys == 0)
return "held"
