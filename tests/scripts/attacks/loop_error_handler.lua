-- expects: RUN_TIME_LIMIT
-- The message handler runs where hooks do not.
xpcall(error, function() while true do end end)
