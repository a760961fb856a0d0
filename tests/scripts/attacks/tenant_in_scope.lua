-- expects: held
for _, call in ipairs{State.get, State.load, State.delete, State.set, State.list_keys} do
  local ok, failure = pcall(call, "tenant:victim", "secret", "stolen")
  assert(not ok and failure.reason == "PERMISSION_DENIED", tostring(failure))
end
return "held"
