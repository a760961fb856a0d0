-- `Streaming`: values one by one, from a function that runs only as far as it is asked.

local kit = ...

local error, setmetatable, type = error, setmetatable, type
local close, create, resume = coroutine.close, coroutine.create, coroutine.resume
local running, status, yield = coroutine.running, coroutine.status, coroutine.yield
local options = kit.options

local Streaming = {}
kit.env.Streaming = Streaming

local Stream = {__name = "stream", __metatable = false}
Stream.__index = Stream

-- Which streams there are, and the coroutine of each.
local bodies = setmetatable({}, {__mode = "k"})
local streams_of = setmetatable({}, {__mode = "k"})
local MARK = {}

local function body_of(stream, name)
  local body = type(stream) == "table" and bodies[stream]
  if not body then error("stream:" .. name .. ": call it with a colon on a stream", 3) end
  return body
end

-- Runs on to the next value, which is kept until it is taken: so isDone knows.
local function advance(body)
  if body.ready or body.done then return end
  local thread = body.thread
  local ok, mark, value = resume(thread, body.argument)
  if ok and status(thread) ~= "dead" then
    -- A coroutine.yield of the function itself passes values on too.
    body.ready, body.value = true, value
    if mark ~= MARK then body.value = mark end
    return
  end
  body.done = true
  if not ok then body.failed, body.failure = true, mark end
end

local function take(body)
  advance(body)
  if body.failed then
    local failure = body.failure
    body.failed, body.failure = false, nil
    error(failure, 0)
  end
  if body.done then return nil, false end
  local value = body.value
  body.ready, body.value = false, nil
  return value, true
end

-- stream:next() → the next value, nil after the last. An error of the function comes out here.
function Stream:next() return (take(body_of(self, "next"))) end

-- stream:isDone() → whether nothing comes any more; runs on to the next value to know.
function Stream:isDone()
  local body = body_of(self, "isDone")
  advance(body)
  return body.done == true and not body.failed
end

local function gather(body, most)
  local values = {}
  while #values < most do
    local value, is_one = take(body)
    if not is_one then break end
    values[#values + 1] = value
  end
  return kit.list(values)
end

-- stream:collect() → the list of all that comes; stream:take(n) → of the next n at most.
function Stream:collect() return gather(body_of(self, "collect"), kit.limits.nodes) end

function Stream:take(count)
  return gather(body_of(self, "take"), options.count(0)(count, "count"))
end

-- for value in stream:each() do … end; or simply: for value in stream do … end.
function Stream:each()
  local body = body_of(self, "each")
  return function() return (take(body)) end
end

function Stream:__call() return (take(body_of(self, "next"))) end

-- stream:forEach(fn) calls fn(value) for each; how many there were.
function Stream:forEach(fn)
  local body, count = body_of(self, "forEach"), 0
  if type(fn) ~= "function" then kit.invalid("fn", "must be a function, not a " .. type(fn)) end
  for value in function() return (take(body)) end do
    count = count + 1
    fn(value)
  end
  return count
end

-- stream:close() ends it; what has not come does not come.
function Stream:close()
  local body = body_of(self, "close")
  if not body.done and status(body.thread) == "suspended" then close(body.thread) end
  body.done, body.ready, body.value, body.failed = true, false, nil, false
end

local function give(value)
  if not streams_of[running()] then
    error("Streaming.yield: call it inside the function of a stream", 2)
  end
  if value == nil then error("Streaming.yield: nil would end the stream for its reader", 2) end
  yield(MARK, value)
end

local function make(fn)
  local stream, body = setmetatable({}, Stream), {}
  body.thread = create(fn)
  body.argument = function(value) return give(value) end
  bodies[stream] = body
  streams_of[body.thread] = true
  return stream
end

-- Another stream with each value changed, and one with those for which fn is true.
function Stream:map(fn)
  local body = body_of(self, "map")
  if type(fn) ~= "function" then kit.invalid("fn", "must be a function, not a " .. type(fn)) end
  return make(function()
    for value in function() return (take(body)) end do give(fn(value)) end
  end)
end

function Stream:filter(fn)
  local body = body_of(self, "filter")
  if type(fn) ~= "function" then kit.invalid("fn", "must be a function, not a " .. type(fn)) end
  return make(function()
    for value in function() return (take(body)) end do
      if fn(value) then yield(MARK, value) end
    end
  end)
end

--| `Streaming.create(fn)`
--- A stream of what the function yields; it runs only as far as it is asked. Or of a list's
--- entries.
Streaming.create = kit.either_way(Streaming, function(source)
  if type(source) == "function" then return make(source) end
  if type(source) == "table" then
    return make(function()
      for i = 1, #source do yield(MARK, source[i]) end
    end)
  end
  kit.invalid("fn", "must be a function or a list, not a " .. type(source))
end)

--| `Streaming.yield(value)`
--- Inside that function: gives a value to whoever asks.
Streaming.yield = kit.either_way(Streaming, give)
