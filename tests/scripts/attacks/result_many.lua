-- expects: SCRIPT_FAILED
-- message: more than
return table.unpack({}, 1, 200000)
