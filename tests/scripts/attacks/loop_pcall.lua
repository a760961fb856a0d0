-- expects: RUN_TIME_LIMIT
-- Catches whatever would interrupt it.
while true do pcall(function() while true do end end) end
