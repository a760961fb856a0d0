-- expects: held
for _, name in ipairs{"", "\0", "../x", "base64_encoder\0", ("x"):rep(100000), "Tool", "__index"} do
  local ok, value = pcall(Tool.execute, name, {})
  assert(not ok or type(value) ~= "string" or not value:find("root:"))
end
for _, bad in ipairs{print, {print}, {[{}] = 1}, 0/0, "\xff"} do
  pcall(Tool.execute, "base64_encoder", bad)
  pcall(Tool.execute, bad, {})
end
return "held"
