-- expects: SCRIPT_FAILED
-- message: the limit is
return ("x"):rep(2200000)
