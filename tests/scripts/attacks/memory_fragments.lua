-- expects: RUN_MEMORY_LIMIT, RUN_TIME_LIMIT
-- limits: wall=3 memory=64
-- Holes of every size: the address space fills before the heap's own count does.
local keep = {}
for k = 1, 12 do
  local t, i = {}, 0
  pcall(function() while true do i = i + 1 t[i] = ("x"):rep(16 << k) .. i end end)
  for j = 1, i do if j % 64 ~= 0 then t[j] = nil end end
  keep[k] = t
end
for i = 1, 50 do
  local ok, raised = pcall(print, ("y"):rep(1000 * i))
  if not ok and type(raised) ~= "string" then return "a " .. type(raised) .. " of Python's" end
end
while true do keep[#keep + 1] = ("z"):rep(1000) .. #keep end
