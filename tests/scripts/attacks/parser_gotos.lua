-- expects: held
local words = {}
for i = 1, 9000 do words[i] = "goto x" .. i .. " ::x" .. i .. "::" end
load(table.concat(words, " "))
assert(load("goto nowhere") == nil)
assert(load("break") == nil)
return "held"
