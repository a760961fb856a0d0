-- expects: held
local words = {}
for i = 1, 250 do words[i] = "local a" .. i end
assert(load(table.concat(words, "\n")) == nil)
assert(load("return " .. ("a..") :rep(60000) .. "a") == nil)
assert(load("local f = f " .. ("f(f,"):rep(300) .. "f" .. (")"):rep(300)) == nil)
return "held"
