-- expects: RUN_TIME_LIMIT
repeat until false
