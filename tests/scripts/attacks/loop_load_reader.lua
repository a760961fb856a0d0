-- expects: RUN_TIME_LIMIT
load(function() while true do end end)
