-- expects: RUN_TIME_LIMIT
-- A numeric loop whose step never gets there.
for _ = 1, math.huge, 0x1p-1000 do end
