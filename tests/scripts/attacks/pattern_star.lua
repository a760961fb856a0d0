-- expects: RUN_TIME_LIMIT
return (("a"):rep(100000)):find((".*"):rep(20) .. "b")
