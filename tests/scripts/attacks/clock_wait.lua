-- expects: RUN_TIME_LIMIT
local start = os.time()
repeat until os.time() - start > 1000
