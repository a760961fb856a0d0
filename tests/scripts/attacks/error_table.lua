-- expects: SCRIPT_FAILED
-- message: the script raised a table
error({})
