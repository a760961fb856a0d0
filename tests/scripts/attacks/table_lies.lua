-- expects: held
local liar = setmetatable({}, {__len = function() return math.maxinteger end})
assert(not pcall(table.unpack, liar))
assert(not pcall(table.unpack, {}, 1, 1e8))
assert(not pcall(table.unpack, {}, math.mininteger, math.maxinteger))
assert(not pcall(table.sort, liar))
assert(not pcall(table.concat, {}, "", 1, math.maxinteger))
assert(not pcall(next, {}, "absent"))
assert(not pcall(select, math.mininteger))
return "held"
