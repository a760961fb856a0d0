-- expects: held
-- Leaves what it can in everything it can reach; the run after it must find nothing.
RESIDUE = "left behind"
string.residue, table.residue, math.residue, os.residue = 1, 1, 1, 1
State.residue = "left behind"
setmetatable(_G, {__index = function() return "left behind" end})
setmetatable(string, {__index = function() return "left behind" end})
math.randomseed(1)
return "held"
