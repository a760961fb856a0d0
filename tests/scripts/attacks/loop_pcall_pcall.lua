-- expects: RUN_TIME_LIMIT
while true do pcall(pcall, pcall, error) end
