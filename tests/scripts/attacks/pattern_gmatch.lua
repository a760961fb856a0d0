-- expects: RUN_TIME_LIMIT
for _ in (("a"):rep(50000)):gmatch((".-"):rep(10) .. "b") do end
