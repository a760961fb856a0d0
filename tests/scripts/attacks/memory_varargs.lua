-- expects: RUN_MEMORY_LIMIT, RUN_TIME_LIMIT, held
-- limits: wall=2
-- Each level has one argument more, so the stack grows with the square.
local function grow(...) return grow(1, ...) end
assert(not pcall(grow))
return "held"
