-- The language a script gets: what is left of Lua's, and what is changed.

local function refused(part, fn, ...)
  local ok, e = pcall(fn, ...)
  assert(not ok and type(e) == "string" and e:find(part, 1, true), tostring(e))
end

-- No way out.
for name in ("debug python dofile loadfile warn host kit"):gmatch("%a+") do
  assert(_G[name] == nil, name)
end
assert(io.open == nil and io.popen == nil and io.read == nil and io.stdout == nil)
assert(os.execute == nil and os.remove == nil and os.tmpname == nil and os.setlocale == nil)
assert(string.dump == nil and os.getenv("PATH") == nil)
assert(_G._G == _G and _VERSION == "Lua 5.4")

-- Text shows no address.
for _, value in ipairs{{}, print, pcall, function() end, coroutine.create(print)} do
  assert(tostring(value) == type(value))
  assert(string.format("%s|%-12s", value, value):find("^" .. type(value) .. "|"))
  refused("expected", string.format, "%d", value)
  refused("'%p'", string.format, "%p", value)
end
refused("'%p'", string.format, "%s %%%-20p", 1, 2)
refused("'%p'", string.format, "%p", "text")
assert(string.format("%%p %5.1f %q %s", 1.25, "x", nil) == "%p   1.2 \"x\" nil")
assert(("%d"):format(3.0) == "3" and string.format("%s", 2^53) == "9.007199254741e+15")
local odd = setmetatable({}, {__tostring = function() return 1 end})
refused("'__tostring' must return a string", tostring, odd)
assert(tostring(setmetatable({}, {__name = "N"})) == "N")
assert(tostring(3.0) == "3.0" and tostring(nil) == "nil")
for _, fn in ipairs{function() return {} .. {} end, function() return #print end} do
  local _, message = pcall(fn)
  assert(not message:find("0x"), message)
end

-- Code is text.
assert(load("return 1 + 1")() == 2)
assert(load(function() return nil end)() == nil)
local pieces = {"return ", "4", "2"}
assert(load(function() return table.remove(pieces, 1) end)() == 42)
local chunk, why = load("\27Lua")
assert(chunk == nil and why:find("attempt to load a binary chunk"))
chunk, why = load("\27Lua", "x", "b")
assert(chunk == nil and why:find("attempt to load a binary chunk"))
chunk, why = load(function() return ("x"):rep(100000) end)
assert(chunk == nil and why:find("256 KiB"))
chunk, why = load(("x"):rep(300000))
assert(chunk == nil and why:find("256 KiB"))
chunk, why = load("x = = 1", "=name")
assert(chunk == nil and why:find("^name:1:"))
leaked = 7
assert(load("return leaked")() == 7 and load("return leaked", "n", "t", {leaked = 8})() == 8)
assert(load("x = 1", "n", "t", {}) and x == nil)

-- Metatables.
assert(getmetatable("") == nil and not pcall(function() return getmetatable("").__index end))
assert(getmetatable(print) == nil and getmetatable(1) == nil)
refused("__gc", setmetatable, {}, {__gc = function() end})
refused("table expected", setmetatable, "", {})
refused("protected", setmetatable, setmetatable({}, {__metatable = 1}), {})
assert(("abc"):upper() == "ABC" and ("x"):rep(3) == "xxx")
local t = setmetatable({}, {__index = function(_, k) return k end})
assert(t.a == "a" and rawget(t, "a") == nil)

-- Coroutines, to-be-closed variables, goto, integer division: the language itself.
local gather = {}
for i in coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) do gather[i] = i end
assert(#gather == 3)
local closed = false
do local guard <close> = setmetatable({}, {__close = function() closed = true end}) end
assert(closed)
assert(7 // 2 == 3 and 1 << 4 == 16 and utf8.len("é") == 1)
assert(table.concat(table.pack(table.unpack({1, 2, 3})), ",") == "1,2,3")

-- Time passes, in UTC; memory is counted and nothing else of the collector is offered.
assert(os.time() > 1700000000 and os.clock() >= 0 and os.difftime(2, 1) == 1)
assert(os.date("%H", 0) == "00" and os.date("!%H", 0) == "00")
assert(os.time{year = 1970, month = 1, day = 1, hour = 0} == 0)
assert(os.date("*t", 86400).day == 2)
assert(collectgarbage("count") > 0)
refused("only 'count'", collectgarbage, "stop")
refused("only 'count'", collectgarbage)
assert(math.randomseed() == nil and math.randomseed(5) == nil)
local first = math.random(1000000)
math.randomseed(5)
assert(math.random(1000000) == first)

-- Replacing what strings find does not reach the API.
local keep = string.gmatch
string.gmatch, string.find = nil, nil
assert(JSON.parse("[1]")[1] == 1 and RAG.search("q").total == 2)
string.gmatch = keep

return "done"
