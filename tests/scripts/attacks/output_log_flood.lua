-- expects: RUN_OUTPUT_LIMIT
while true do Logger.error(("x"):rep(1000)) end
