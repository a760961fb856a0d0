-- expects: RUN_TIME_LIMIT
-- A closed coroutine runs what it has to close.
local co = coroutine.create(function()
  local held <close> = setmetatable({}, {__close = function() while true do end end})
  coroutine.yield()
end)
coroutine.resume(co)
coroutine.close(co)
