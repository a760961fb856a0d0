-- expects: RUN_OUTPUT_LIMIT
while true do print(("x"):rep(100)) end
