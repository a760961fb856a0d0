-- expects: RUN_TIME_LIMIT, held
-- limits: wall=1
local ok, stream = pcall(Streaming.create, function() while true do Streaming.yield(1) end end)
if not ok then return "held" end
while true do pcall(stream.next, stream) end
