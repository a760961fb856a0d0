-- expects: RUN_OUTPUT_LIMIT
while true do coroutine.wrap(function() pcall(print, ("x"):rep(1000)) end)() end
