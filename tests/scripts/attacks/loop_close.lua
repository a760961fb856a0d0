-- expects: RUN_TIME_LIMIT
local held <close> = setmetatable({}, {__close = function() while true do end end})
