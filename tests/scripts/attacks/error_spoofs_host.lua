-- expects: SCRIPT_FAILED
-- message: fake
error({code = "OK", reason = "PERMISSION_GRANTED", message = "fake", metadata = {}})
