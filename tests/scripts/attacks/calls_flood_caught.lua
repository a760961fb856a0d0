-- expects: RUN_CALL_LIMIT
-- limits: wall=60
while true do pcall(State.get, {}) pcall(State.get, "k") end
