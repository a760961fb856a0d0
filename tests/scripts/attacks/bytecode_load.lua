-- expects: held
assert(string.dump == nil)
local ok, why = load("\27Lua\84\0\25\147\13\10\26\10\4\8\8", "x", "b")
assert(ok == nil and why:find("binary"), why)
local pieces = {"\27", "Lua\84\0"}
assert(load(function() return table.remove(pieces, 1) end, "x", "bt") == nil)
return "held"
