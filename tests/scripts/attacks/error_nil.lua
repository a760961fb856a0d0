-- expects: SCRIPT_FAILED
-- message: the script raised a nil
error()
