-- expects: RUN_MEMORY_LIMIT
return ("x"):rep(1 << 31 - 1)
