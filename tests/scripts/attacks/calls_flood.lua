-- expects: RUN_CALL_LIMIT
-- limits: wall=60
for i = 1, 10000 do State.get("k") end
