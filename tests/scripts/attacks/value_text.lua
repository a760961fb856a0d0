-- expects: held
assert(not pcall(State.set, "k", "\xff\xfe"))
assert(not pcall(State.set, "k\0z", 1))
assert(not pcall(State.set, "k", {["\xff"] = 1}))
assert(not pcall(State.set, ("k"):rep(300), 1))
return "held"
