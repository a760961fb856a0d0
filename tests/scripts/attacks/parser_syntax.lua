-- expects: SCRIPT_SYNTAX
-- message: unexpected symbol
local x = = 1
