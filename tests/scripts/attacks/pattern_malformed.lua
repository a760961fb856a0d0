-- expects: held
for _, bad in ipairs{"[", "%", "(", "%b", "%f", "[%", "[a-", "%1", "()%2", ("("):rep(40)} do
  local ok = pcall(string.find, "text", bad)
  assert(not ok, bad)
end
return "held"
