-- expects: held
local f
f = function(s) return (s:gsub(".", f)) end
assert(not pcall(f, "x"))
return "held"
