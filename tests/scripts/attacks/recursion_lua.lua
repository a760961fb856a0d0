-- expects: SCRIPT_FAILED
-- message: stack overflow
-- limits: memory=64
local function f(n) return 1 + f(n + 1) end
f(1)
