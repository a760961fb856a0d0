-- expects: RUN_TIME_LIMIT
return (("a "):rep(50000)):find(("%f[%a].-"):rep(30) .. "b")
