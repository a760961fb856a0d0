-- expects: held
assert(not pcall(utf8.char, -1) and not pcall(utf8.char, 1 << 31))
assert(not pcall(utf8.codepoint, "\xf8\x88\x80\x80\x80"))
assert(not pcall(utf8.codepoint, ("x"):rep(1000000), 1, -1))
assert(not pcall(utf8.offset, "x", 1, math.maxinteger))
return "held"
