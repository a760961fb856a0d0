-- expects: RUN_OUTPUT_LIMIT
io.write(("x"):rep(1 << 22))
