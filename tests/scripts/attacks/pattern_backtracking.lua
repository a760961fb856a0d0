-- expects: RUN_TIME_LIMIT
return (("a"):rep(200)):find((".-"):rep(50) .. "b")
