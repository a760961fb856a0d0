-- expects: RUN_MEMORY_LIMIT, RUN_TIME_LIMIT
-- limits: wall=2
-- Ephemerons that lead to each other make the collector work.
local t = setmetatable({}, {__mode = "k"})
local first = {}
local last = first
while true do
  local new = {}
  t[last] = new
  last = new
end
