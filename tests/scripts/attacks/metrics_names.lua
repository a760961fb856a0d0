-- expects: held, RUN_MEMORY_LIMIT
-- More names than anybody could read.
for i = 1, 20000 do pcall(Metrics.increment, "name" .. i, 1) end
return "held"
