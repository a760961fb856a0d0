-- expects: held
local ok, why = pcall(string.find, ("a"):rep(300000), ("a?"):rep(250000))
assert(not ok and why:find("too complex"), why)
return "held"
