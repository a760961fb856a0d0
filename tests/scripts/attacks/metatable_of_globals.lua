-- expects: SCRIPT_FAILED
-- message: poisoned
setmetatable(_G, {__index = error, __newindex = error})
State.get("k")
error("poisoned", 0)
