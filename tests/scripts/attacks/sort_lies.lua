-- expects: held
local t = {}
for i = 1, 5000 do t[i] = i % 7 end
pcall(table.sort, t, function() return true end)
pcall(table.sort, t, function() t[#t + 1] = 1 return math.random() < 0.5 end)
return "held"
