-- MessagePack, which is how a call's arguments and its answer cross to the host.
-- https://github.com/msgpack/msgpack/blob/master/spec.md
-- Text that is UTF-8 goes as str, other bytes as bin; 3 and 3.0 stay apart; NaN and infinity,
-- functions and cycles are refused with the place named.

local kit = ...

local rawequal = rawequal
local tree, null = kit.tree, kit.null
local error, rawget, type = error, rawget, type
local byte, char, sub = string.byte, string.char, string.sub
local spack, sunpack = string.pack, string.unpack
local concat, huge, math_type, utf8_len = table.concat, math.huge, math.type, utf8.len

local codec = {}
kit.codec = codec

local function head(size, short, short_max, one, two, four)
  if short and size <= short_max then return char(short + size) end
  if one and size <= 0xFF then return spack(">BB", one, size) end
  if size <= 0xFFFF then return spack(">BI2", two, size) end
  return spack(">BI4", four, size)
end

local function integer(value)
  if value >= 0 then
    if value <= 0x7F then return char(value) end
    if value <= 0xFF then return spack(">BB", 0xCC, value) end
    if value <= 0xFFFF then return spack(">BI2", 0xCD, value) end
    if value <= 0xFFFFFFFF then return spack(">BI4", 0xCE, value) end
  elseif value >= -32 then
    return spack(">b", value)
  end
  return spack(">Bi8", 0xD3, value)
end

local function text(value)
  if utf8_len(value) then return head(#value, 0xA0, 31, 0xD9, 0xDA, 0xDB) .. value end
  return head(#value, nil, nil, 0xC4, 0xC5, 0xC6) .. value
end

local write

local function write_list(walk, out, value, length)
  out[#out + 1] = head(length, 0x90, 15, nil, 0xDC, 0xDD)
  for i = 1, length do
    walk:step(i)
    write(walk, out, rawget(value, i))
    walk:back()
  end
end

local function write_map(walk, out, value)
  local names, originals = tree.keys(walk, value)
  out[#out + 1] = head(#names, 0x80, 15, nil, 0xDE, 0xDF)
  for i = 1, #names do
    local name = names[i]
    walk:step(name)
    walk:count()
    if not utf8_len(name) then walk:fail("is a key that is not UTF-8") end
    out[#out + 1] = text(name)
    write(walk, out, rawget(value, originals[name]))
    walk:back()
  end
end

function write(walk, out, value)
  local kind = type(value)
  walk:count()
  if kind == "nil" or rawequal(value, null) then
    out[#out + 1] = "\xC0"
  elseif kind == "boolean" then
    out[#out + 1] = value and "\xC3" or "\xC2"
  elseif kind == "string" then
    out[#out + 1] = text(value)
  elseif math_type(value) == "integer" then
    out[#out + 1] = integer(value)
  elseif kind == "number" then
    if value ~= value or value == huge or value == -huge then
      walk:fail("is not a finite number")
    end
    out[#out + 1] = spack(">Bd", 0xCB, value)
  elseif kind == "table" then
    walk:enter(value)
    local length = tree.list_length(value)
    if length then write_list(walk, out, value, length) else write_map(walk, out, value) end
    walk:leave(value)
  else
    walk:fail("is a " .. kind .. ", which cannot leave the script")
  end
end

local function encode(value, root)
  local walk, out = tree.walk(root), {}
  write(walk, out, value)
  local bytes = concat(out)
  if #bytes > kit.limits.bytes then
    walk:fail("takes " .. #bytes .. " bytes; the limit is " .. kit.limits.bytes)
  end
  return bytes
end

-- true and the bytes, or false and why not; `root` names the value in that text.
function codec.encode(value, root)
  return tree.guard(encode, value, root)
end

local read

local SIZED = {
  [0xC4] = ">s1", [0xC5] = ">s2", [0xC6] = ">s4", [0xD9] = ">s1", [0xDA] = ">s2", [0xDB] = ">s4",
  [0xCA] = ">f", [0xCB] = ">d", [0xCC] = ">I1", [0xCD] = ">I2", [0xCE] = ">I4",
  [0xD0] = ">i1", [0xD1] = ">i2", [0xD2] = ">i4", [0xD3] = ">i8",
}
local LISTS = {[0xDC] = ">I2", [0xDD] = ">I4"}
local MAPS = {[0xDE] = ">I2", [0xDF] = ">I4"}

local function read_list(data, position, count)
  local result = {}
  if count == 0 then return tree.list(result), position end
  for i = 1, count do
    result[i], position = read(data, position)
  end
  return result, position
end

local function read_map(data, position, count)
  local result, key = {}, nil
  for _ = 1, count do
    key, position = read(data, position)
    result[key], position = read(data, position)
  end
  return result, position
end

function read(data, position)
  local lead = byte(data, position)
  position = position + 1
  if lead <= 0x7F then return lead, position end
  if lead >= 0xE0 then return lead - 0x100, position end
  if lead <= 0x8F then return read_map(data, position, lead - 0x80) end
  if lead <= 0x9F then return read_list(data, position, lead - 0x90) end
  if lead <= 0xBF then
    local stop = position + lead - 0xA0
    return sub(data, position, stop - 1), stop
  end
  if lead == 0xC0 then return nil, position end
  if lead == 0xC2 then return false, position end
  if lead == 0xC3 then return true, position end
  if SIZED[lead] then return sunpack(SIZED[lead], data, position) end
  if lead == 0xCF then
    local value, stop = sunpack(">i8", data, position)
    -- Past 2^63 only a float can hold it.
    if value < 0 then return value + 0x1p64, stop end
    return value, stop
  end
  local count
  if LISTS[lead] then
    count, position = sunpack(LISTS[lead], data, position)
    return read_list(data, position, count)
  end
  if not MAPS[lead] then error("reply: unknown lead byte " .. lead, 0) end
  count, position = sunpack(MAPS[lead], data, position)
  return read_map(data, position, count)
end

-- The host wrote it, so it is taken to be well formed.
function codec.decode(data)
  return (read(data, 1))
end
