-- expects: SCRIPT_FAILED
-- message: xxxxxxxx
error(("x"):rep(5000000), 0)
