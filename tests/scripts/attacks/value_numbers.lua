-- expects: held
for _, bad in ipairs{0/0, 1/0, -1/0} do
  assert(not pcall(State.set, "k", bad))
  assert(not pcall(State.set, "k", {a = {bad}}))
end
for _, good in ipairs{math.maxinteger, math.mininteger, 2^53, 5e-324, -0.0} do
  State.set("k", good)
  assert(State.get("k") == good)
end
return "held"
