-- Streaming: a function that runs only as far as it is asked.

local steps = 0
local function count(last)
  return function()
    for i = 1, last do
      steps = steps + 1
      Streaming.yield(i)
    end
  end
end

-- Nothing runs before the first value is asked for, and no more than that.
local stream = Streaming.create(count(3))
assert(steps == 0)
assert(stream:next() == 1 and steps == 1)
assert(not stream:isDone() and steps == 2 and not stream:isDone() and steps == 2)
assert(stream:next() == 2 and stream:next() == 3 and stream:next() == nil)
assert(stream:isDone() and stream:next() == nil)

-- All of it, some of it, in a loop.
assert(#Streaming.create(count(4)):collect() == 4 and #Streaming:create(count(4)):collect() == 4)
assert(JSON.stringify(Streaming.create(count(0)):collect()) == "[]")
local some = Streaming.create(count(5))
assert(JSON.stringify(some:take(2)) == "[1,2]" and JSON.stringify(some:collect()) == "[3,4,5]")
local sum = 0
for value in Streaming.create(count(4)) do sum = sum + value end
for value in Streaming.create(count(4)):each() do sum = sum + value end
assert(sum == 20 and Streaming.create(count(3)):forEach(function(v) sum = sum - v end) == 3 and sum == 14)

-- From a list; by the function's own argument; by coroutine.yield; changed and chosen.
assert(JSON.stringify(Streaming.create({"a", "b"}):collect()) == '["a","b"]')
assert(Streaming.create(function(yield) yield("x") end):next() == "x")
assert(Streaming.create(function() coroutine.yield(7) end):next() == 7)
assert(Streaming.create(function() Streaming:yield(false) end):next() == false)
local doubled = Streaming.create(count(4)):filter(function(v) return v % 2 == 0 end)
  :map(function(v) return v * 10 end)
assert(JSON.stringify(doubled:collect()) == "[20,40]")

-- An endless one ends when it is closed.
local endless = Streaming.create(function() local n = 0 while true do n = n + 1 Streaming.yield(n) end end)
assert(endless:next() == 1 and #endless:take(9) == 9)
endless:close()
assert(endless:isDone() and endless:next() == nil)

-- A stream within a stream.
local outer = Streaming.create(function()
  for value in Streaming.create(count(2)) do Streaming.yield(value + 100) end
end)
assert(JSON.stringify(outer:collect()) == "[101,102]")

-- Errors come out where the next value is asked for, once; the stream is over then.
local failing = Streaming.create(function() Streaming.yield(1) error({code = 7}) end)
assert(failing:next() == 1 and not failing:isDone())
local ok, e = pcall(failing.next, failing)
assert(not ok and e.code == 7 and failing:isDone() and failing:next() == nil)
ok, e = pcall(function() return Streaming.create(function() error("no", 0) end):collect() end)
assert(not ok and e == "no")

-- What is wrong is said.
ok, e = pcall(Streaming.yield, 1)
assert(not ok and e:find("inside the function of a stream", 1, true))
ok, e = pcall(Streaming.create, 5)
assert(not ok and e.reason == "FIELD_INVALID")
ok, e = pcall(stream.next)
assert(not ok and e:find("with a colon", 1, true))
ok, e = pcall(function() Streaming.create(function() Streaming.yield(nil) end):next() end)
assert(not ok and e:find("nil would end", 1, true))
assert(tostring(stream) == "stream" and getmetatable(stream) == false)

-- Calls of the host within.
local saved = Streaming.create(function()
  State.save("session:stream", "k", 5)
  Streaming.yield(State.load("session:stream", "k"))
end)
assert(saved:next() == 5)

return "done"
