-- expects: held
-- A script may choose its own stream; it finds nobody else's.
math.randomseed(1)
local a = math.random(1 << 60)
math.randomseed(1)
assert(a == math.random(1 << 60))
return "held"
