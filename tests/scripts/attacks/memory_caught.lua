-- expects: RUN_MEMORY_LIMIT, RUN_TIME_LIMIT
-- limits: wall=2
-- Catches the error of memory and goes on.
local t = {}
while true do pcall(function() t[#t + 1] = ("x"):rep(100000) .. #t end) end
