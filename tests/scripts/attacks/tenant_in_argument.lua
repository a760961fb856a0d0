-- expects: held
-- A tenant is no argument of any call; whoever adds one has not said anything.
for _, given in ipairs{{tenant = "victim"}, {tenant_id = "victim"}, {_tenant = "victim"}} do
  local ok, value = pcall(State.get, "global", "secret", given)
  assert(not ok or value == nil)
  local ok, keys = pcall(State.list_keys, "global", "", given)
  for _, key in ipairs(ok and keys or {}) do assert(key ~= "secret") end
end
return "held"
