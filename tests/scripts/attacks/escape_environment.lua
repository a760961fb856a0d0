-- expects: held
-- The real globals are reached neither through _ENV nor through what load gives.
assert(_ENV == _G)
local globals = load("return _ENV")()
assert(globals == _G)
assert(load("return _ENV", "x", "t", nil)() == nil)
assert(rawget(_G, "debug") == nil)
return "held"
