-- expects: RUN_MEMORY_LIMIT
return #(("x"):rep(1 << 20):gsub("", ("y"):rep(1 << 10)))
