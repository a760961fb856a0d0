-- expects: held
-- A yield out of C, and out of the main thread.
assert(not pcall(coroutine.yield))
assert(not pcall(coroutine.wrap(function() table.sort({1, 2, 3}, coroutine.yield) end)))
assert(not pcall(coroutine.wrap(function() ("x"):gsub("x", coroutine.yield) end)))
return "held"
