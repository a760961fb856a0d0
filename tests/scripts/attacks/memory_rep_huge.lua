-- expects: held
-- More bytes than there are numbers for.
local ok, why = pcall(string.rep, "xx", math.maxinteger)
assert(not ok and why:find("too large"), why)
return "held"
