-- expects: held
-- Bytes that would steer a terminal or forge a frame are bytes.
io.write("\27[2J\0\1\2\19\0\0\0\17", ("\xff"):rep(100), "\r\n")
return "held"
