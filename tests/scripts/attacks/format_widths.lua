-- expects: held
for _, format in ipairs{"%99999d", "%.99999f", "%*d", "%n", "%10000s", "%-+ #0200d", "%", "%q%"} do
  assert(not pcall(string.format, format, 1, 1), format)
end
assert(#string.format("%.99f", -1e308) < 500)
return "held"
