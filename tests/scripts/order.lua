-- The order of keys and of sorts: the same in every process.

local function keys(t)
  local all = {}
  for key in pairs(t) do all[#all + 1] = tostring(key) end
  return table.concat(all, " ")
end

local function keys_by_next(t)
  local all, key = {}, next(t)
  while key ~= nil do
    all[#all + 1] = tostring(key)
    key = next(t, key)
  end
  return table.concat(all, " ")
end

local mixed = {c = 1, [true] = 1, b = 1, [2.5] = 1, [-1] = 1, 10, 20, 30, a = 1, [false] = 1}
mixed[7], mixed[5], mixed[0] = 1, 1, 1
assert(keys(mixed) == "1 2 3 5 7 -1 0 2.5 a b c false true", keys(mixed))
assert(keys_by_next(mixed) == keys(mixed), keys_by_next(mixed))
assert(keys({}) == "" and keys_by_next({}) == "" and next({}) == nil)
assert(keys({1, 2, 3}) == "1 2 3" and keys({[3] = 1, [2] = 1, [1] = 1}) == "1 2 3")
assert(keys({1, nil, 3}) == "1 3" and keys_by_next({1, nil, 3}) == "1 3")

-- Objects come last, each once.
local one, two = {}, function() end
local seen = 0
for key in pairs({[one] = 1, [two] = 2, x = 3}) do
  seen = seen + 1
  assert(seen > 1 or key == "x")
end
assert(seen == 3)

-- Fields may be set and cleared on the way; what is cleared is not met.
local t = {a = 1, b = 2, c = 3, 1, 2, 3}
for key in pairs(t) do
  t[key] = nil
  t.c = nil
end
assert(next(t) == nil)
t = {a = 1, b = 2, c = 3, d = 4}
for key, value in pairs(t) do t[key] = value * 2 end
assert(t.a == 2 and t.d == 8)
local key = next(t)
while key do
  t[key] = nil
  key = next(t, key)
end
assert(next(t) == nil)
t = {1, 2, 3}
key = next(t)
while key do
  t[key] = nil
  key = next(t, key)
end
assert(next(t) == nil)

-- __pairs, wrong arguments and unknown keys are as in Lua.
local own = setmetatable({}, {__pairs = function(self) return function(_, k) if not k then return 1, 2 end end, self end})
for k, v in pairs(own) do assert(k == 1 and v == 2) end
for _, wrong in ipairs{function() pairs(nil) end, function() next(1) end, function() next({}, "x") end,
    function() table.sort(nil) end, function() table.sort({}, 1) end} do
  local ok, message = pcall(wrong)
  assert(not ok and (message:find("order.lua:%d+:")), message)
end
assert(select(2, pcall(pairs)):find("bad argument #1 to 'pairs' %(table expected, got no value%)"))

-- Every sort gives what it should, and a stable one where more than 100 are compared by a function.
local list = {}
for i = 1, 1000 do list[i] = (i * 7919) % 1009 end
table.sort(list)
for i = 2, #list do assert(list[i - 1] <= list[i]) end
for i = 1, 1000 do list[i] = {(i * 7919) % 10, i} end
table.sort(list, function(a, b) return a[1] < b[1] end)
for i = 2, #list do
  local a, b = list[i - 1], list[i]
  assert(a[1] < b[1] or a[1] == b[1] and a[2] < b[2])
end
for i = 1, 200 do list[i] = i % 2 == 0 and i or i + 0.5 end
for i = 201, 1000 do list[i] = nil end
table.sort(list, function(a, b) return a > b end)
for i = 2, 200 do assert(list[i - 1] >= list[i]) end
table.sort(list)
for i = 2, 200 do assert(list[i - 1] <= list[i]) end
local ok, message = pcall(table.sort, {3, "x", 1})
assert(not ok and message:find("attempt to compare"))

-- Time comes from the host.
local first = os.clock()
assert(first >= 0 and os.clock() >= first and os.time() > 1700000000)
assert(os.date("%Y") >= "2026" and #os.date() > 10 and os.date("%H", 0) == "00")
assert(collectgarbage("count") > 10)
return "done"
