-- expects: SCRIPT_FAILED
error(("\xff\xfe\0\27[2J\r\n"):rep(1000), 0)
