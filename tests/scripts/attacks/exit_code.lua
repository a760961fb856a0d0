-- expects: SCRIPT_FAILED
-- message: exit status
os.exit(-1)
