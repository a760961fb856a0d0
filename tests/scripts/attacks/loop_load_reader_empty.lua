-- expects: held
-- A reader that gives spaces for ever meets the limit of a chunk.
local ok, why = load(function() return (" "):rep(1000) end)
assert(ok == nil and why:find("256 KiB"))
return "held"
