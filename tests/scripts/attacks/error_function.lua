-- expects: SCRIPT_FAILED
-- message: the script raised a function
error(print)
