-- expects: RUN_TIME_LIMIT
return (("("):rep(1000000)):find("%b()")
