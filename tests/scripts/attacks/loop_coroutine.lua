-- expects: RUN_TIME_LIMIT
coroutine.wrap(function() while true do end end)()
