-- expects: held
-- Names that look alike, and ones that would mean more than a name.
for _, name in ipairs{
  "Victim", "victim ", " victim", "victim\0", "victim/", "../victim", "victim:global", "*", "",
  "%76ictim", "vicтim", "victim\n", "system", ".", ("v"):rep(1000),
} do
  local ok, failure = pcall(State.get, "tenant:" .. name, "secret")
  local found = ok and failure
  assert(not found, name)
end
return "held"
