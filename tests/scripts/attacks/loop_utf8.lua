-- expects: RUN_TIME_LIMIT
local text = ("é"):rep(200000)
while true do utf8.len(text) end
