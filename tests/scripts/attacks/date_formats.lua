-- expects: held
for _, format in ipairs{"%Ez", "%", "%E", "%O", "%Q", "%\0", "!%", ("%c"):rep(1000)} do
  pcall(os.date, format)
  pcall(os.date, format, math.maxinteger)
  pcall(os.date, format, -1e300)
end
pcall(os.time, {year = math.maxinteger, month = math.mininteger, day = 1})
pcall(os.time, {year = 2^53, month = {}, day = print})
return "held"
