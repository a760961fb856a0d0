-- expects: RUN_TIME_LIMIT
-- Tail calls take no stack, so nothing overflows.
local function f() return f() end
f()
