-- expects: held
for _, bad in ipairs{print, coroutine.create(print), {print}, {[{}] = 1}, {[true] = 1}} do
  assert(not pcall(State.set, "k", bad))
  assert(not pcall(State.set, bad, 1))
  assert(not pcall(State.set, bad, "k", 1))
end
return "held"
