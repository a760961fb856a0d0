-- expects: held
for _, format in ipairs{"i17", "!17", "s9", "Xz", "X", "!3i4", "i0"} do
  pcall(string.pack, format, 1)
  pcall(string.unpack, format, "x")
end
assert(not pcall(string.unpack, "s8", ("\xff"):rep(8)))
assert(not pcall(string.unpack, "c" .. math.maxinteger, "x"))
pcall(string.unpack, "b", "x", math.mininteger)
assert(not pcall(string.packsize, ("c2147483647"):rep(10)))
return "held"
