-- expects: RUN_TIME_LIMIT
-- An endless loop in its plainest form.
while true do end
