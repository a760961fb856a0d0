-- expects: SCRIPT_FAILED
-- message: the script raised a table
local t = {}
for _ = 1, 100000 do t = {t, message = t} end
error(t)
