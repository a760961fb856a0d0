-- expects: held
for _, scope in ipairs{
  "global\0victim", "../victim", "session:../../x", "session:\0", "user:a\0b", "a:b:c", ":", "::",
  "session:", "\xff", ("s"):rep(500), "/etc/passwd", "custom:../..", "global/../../victim",
} do
  local ok, value = pcall(State.get, scope, "secret")
  assert(not ok or value == nil, scope)
end
return "held"
