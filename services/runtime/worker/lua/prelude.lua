-- The globals a script starts with, each either harmless as Lua has it or made again here.
-- Nothing here may show an address, take bytecode, reach a file, or hand out the real _G.
-- Every part captures what it needs at load time: `strip` empties the real globals afterwards.

local kit = ...

local native_load, native_setmetatable, native_getmetatable = load, setmetatable, getmetatable
local error, next, pairs, pcall, select, type = error, next, pairs, pcall, select, type
local rawget, rawlen, rawset, native_tostring = rawget, rawlen, rawset, tostring
local rawequal = rawequal
local concat, pack, unpack = table.concat, table.pack, table.unpack
local find, match, sub, native_format = string.find, string.match, string.sub, string.format
local floor, tointeger, native_randomseed = math.floor, math.tointeger, math.randomseed
local native_collect, os_date, os_difftime, os_time = collectgarbage, os.date, os.difftime, os.time
local spack = string.pack
local raw_metatable, bridge = debug.getmetatable, kit.host

local LOAD_BYTES_MAX = 256 * 1024

local NO_MEMORY = "not enough memory"

-- Python has failed before the callback began where this raises, for want of memory; what is raised
-- is then an object of its, which must stay here.
local function host(operation, data)
  local ok, status, reply = pcall(bridge, operation, data)
  if not ok then error(NO_MEMORY, 0) end
  return status, reply
end
kit.host = host

-- An error of what was called, as one of the caller. Running out of memory has no place.
local function blame(message)
  if message == NO_MEMORY then error(message, 0) end
  error(message, 3)
end

local function copy(source, names)
  local result = {}
  for name in names:gmatch("%S+") do result[name] = source[name] end
  return result
end

local env = copy(_G, [[
  assert error ipairs pcall rawequal rawget rawlen rawset select tonumber type xpcall
  _VERSION
]])
env._G = env
kit.env = env

-- Text -----------------------------------------------------------------------------------------

-- As Lua's, without the address: a table prints `table`, a function `function`.
local function tostring(...)
  if select("#", ...) == 0 then error("bad argument #1 to 'tostring' (value expected)", 2) end
  local value = ...
  local kind = type(value)
  if kind ~= "table" and kind ~= "function" and kind ~= "thread" and kind ~= "userdata" then
    return native_tostring(value)
  end
  local meta = kind == "table" and raw_metatable(value)
  if meta then
    local convert = rawget(meta, "__tostring")
    if convert then
      local text = convert(value)
      if type(text) ~= "string" then error("'__tostring' must return a string", 2) end
      return text
    end
    local name = rawget(meta, "__name")
    if type(name) == "string" then return name end
  end
  return kind
end
kit.tostring = tostring
env.tostring = tostring

-- As Lua's, without %p; whatever has an address is turned into text first.
local function format(text, ...)
  if type(text) == "number" then text = native_tostring(text) end
  if type(text) ~= "string" then
    error("bad argument #1 to 'format' (string expected, got " .. type(text) .. ")", 2)
  end
  local position = 1
  while true do
    local start, stop, conversion = find(text, "%%[^%a%%]*(.?)", position)
    if not start then break end
    if conversion == "p" then error("invalid conversion '%p' to 'format'", 2) end
    position = stop + 1
  end
  local values = pack(...)
  for i = 1, values.n do
    local kind = type(values[i])
    if kind ~= "number" and kind ~= "string" and kind ~= "boolean" and kind ~= "nil" then
      values[i] = tostring(values[i])
    end
  end
  local ok, result = pcall(native_format, text, unpack(values, 1, values.n))
  if not ok then blame(result) end
  return result
end

env.string = copy(string, [[
  byte char find gmatch gsub len lower match pack packsize rep reverse sub unpack upper
]])
env.string.format = format
env.table = copy(table, "concat insert move pack remove unpack")
env.utf8 = copy(utf8, "char charpattern codepoint codes len offset")

-- Numbers and time -----------------------------------------------------------------------------

env.math = copy(math, [[
  abs acos asin atan ceil cos deg exp floor fmod huge log max maxinteger min mininteger modf pi
  rad random sin sqrt tan tointeger type ult
]])
kit.seed = native_randomseed
-- Without arguments Lua would seed from an address and return it; here the start is random already.
function env.math.randomseed(...)
  if select("#", ...) > 0 then native_randomseed(...) end
end

-- Whatever a script can learn of time and of memory is asked of the host, so that a run that is made
-- again learns the same: `t` nanoseconds since 1970, `c` nanoseconds since the run began, `m` with a
-- number gives that number, or the one that was told when the run was first made.
local function reading(kind) return (host("t", kind)) end

-- For the other parts. Seconds since 1970; seconds since the run began; bytes of the heap.
function kit.now() return reading("t") / 1e9 end
function kit.elapsed() return reading("c") / 1e9 end
function kit.memory_bytes() return reading("m" .. spack("<i8", native_collect("count") * 1024 // 1)) end

-- The time zone is UTC. There is no environment, so getenv finds nothing.
env.os = {
  clock = kit.elapsed,
  date = function(format, time, ...)
    if time == nil then time = reading("t") // 1000000000 end
    return os_date(format == nil and "%c" or format, time, ...)
  end,
  difftime = function(...) return os_difftime(...) end,
  time = function(table, ...)
    if table == nil then return reading("t") // 1000000000 end
    return os_time(table, ...)
  end,
  getenv = function() return nil end,
}

function env.collectgarbage(option)
  if option ~= "count" then
    error("collectgarbage: only 'count' is offered; memory is collected by itself", 2)
  end
  return kit.memory_bytes() / 1024
end

-- Code and metatables --------------------------------------------------------------------------

local function gather(reader)
  local pieces, size = {}, 0
  while true do
    local piece = reader()
    if piece == nil or piece == "" then return concat(pieces) end
    if type(piece) ~= "string" then error("reader function must return a string", 0) end
    size = size + #piece
    if size > LOAD_BYTES_MAX then error("chunk is longer than 256 KiB", 0) end
    pieces[#pieces + 1] = piece
  end
end

-- Text only, at most 256 KiB, into the script's globals or a table it gives.
function env.load(chunk, name, _, ...)
  if type(chunk) == "function" then
    local ok, text = pcall(gather, chunk)
    if not ok then return nil, text end
    chunk = text
  elseif type(chunk) ~= "string" then
    error("bad argument #1 to 'load' (string or function expected)", 2)
  end
  if #chunk > LOAD_BYTES_MAX then return nil, "chunk is longer than 256 KiB" end
  local globals = env
  if select("#", ...) > 0 then globals = (...) end
  return native_load(chunk, type(name) == "string" and name or "=(load)", "t", globals)
end

-- Strings share one metatable and host errors have a locked one; only tables show theirs.
function env.getmetatable(value)
  if type(value) ~= "table" then return nil end
  return native_getmetatable(value)
end

-- Finalizers run at moments nobody chooses, so a metatable with __gc is refused.
function env.setmetatable(value, meta)
  if type(value) ~= "table" then
    error("bad argument #1 to 'setmetatable' (table expected, got " .. type(value) .. ")", 2)
  end
  if type(meta) == "table" and rawget(meta, "__gc") ~= nil then
    error("setmetatable: __gc is not offered", 2)
  end
  local ok, message = pcall(native_setmetatable, value, meta)
  if not ok then blame(message) end
  return value
end

-- As scripts have them, whatever they put in their place.
kit.getmetatable, kit.setmetatable = env.getmetatable, env.setmetatable

-- Every value that crosses to the host is bytes, so native coroutines are safe.
env.coroutine = copy(coroutine, "close create isyieldable resume running status wrap yield")

-- Output ---------------------------------------------------------------------------------------

kit.output_left = 0

-- What passes the limit is cut to one byte over it: the host sees the crossing and ends the run.
local function write(text)
  local left = kit.output_left
  if #text > left then text = sub(text, 1, left + 1) end
  kit.output_left = left - #text
  if #text > 0 then host("o", text) end
end

function env.print(...)
  local words = pack(...)
  for i = 1, words.n do
    local text = tostring(words[i])
    -- 3.0 prints as 3.
    if type(words[i]) == "number" then text = match(text, "^(-?%d+)%.0$") or text end
    words[i] = text
  end
  write(concat(words, "\t", 1, words.n) .. "\n")
end

env.io = {}

function env.io.write(...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    local kind = type(value)
    if kind ~= "string" and kind ~= "number" then
      error("bad argument #" .. i .. " to 'write' (string expected, got " .. kind .. ")", 2)
    end
    write(native_tostring(value))
  end
  return env.io
end

-- For the other parts --------------------------------------------------------------------------

-- A function that may be called with a dot or with a colon.
function kit.either_way(owner, fn)
  return function(...)
    if rawequal((...), owner) and select("#", ...) > 0 then return fn(select(2, ...)) end
    return fn(...)
  end
end

-- A whole number as an integer, or nil.
function kit.integer(value)
  if type(value) ~= "number" or value ~= value or floor(value) ~= value then return nil end
  return tointeger(value)
end

-- Leaves nothing in the real globals. lupa looks `debug` up outside a protected call, and a value
-- that is there, even false, ends the look-up before any metatable is asked.
function kit.strip()
  local real, loaded = _G, package.loaded
  native_getmetatable("").__index = env.string
  for name in pairs(loaded) do rawset(loaded, name, nil) end
  local name = next(real)
  while name ~= nil do
    rawset(real, name, nil)
    name = next(real)
  end
  rawset(real, "debug", false)
end
