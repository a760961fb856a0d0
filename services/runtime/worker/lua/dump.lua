-- Values as text for people: with their kinds, cycles named, nothing longer than asked for. Raw access
-- only, so no metamethod of a script runs and no address is shown.

local kit = ...

local rawequal = rawequal
local options, null = kit.options, kit.null
local math_type, min = math.type, math.min
local rawget, rawlen, setmetatable, type = rawget, rawlen, setmetatable, type
local find, format, gsub, rep, sub = string.find, string.format, string.gsub, string.rep, string.sub
local concat = table.concat
local raw_metatable = debug.getmetatable

local DEPTH_MAX, TEXT_MAX, ENTRIES_MAX, BYTES_MAX = 64, 65536, 10000, 256 * 1024

local DEFAULTS = {
  max_depth = 10, indent_size = 2, max_string_length = 200, max_array_elements = 50,
  max_table_pairs = 50, show_types = false, show_addresses = false, compact_mode = false,
}
local COMPACT = {compact_mode = true, max_depth = 3, max_string_length = 60, max_array_elements = 10,
  max_table_pairs = 10}
local VERBOSE = {show_types = true, max_depth = 20, max_string_length = 2000,
  max_array_elements = 500, max_table_pairs = 500}

local KNOWN = {
  max_depth = options.count(0, DEPTH_MAX), indent_size = options.count(0, 16),
  max_string_length = options.count(0, TEXT_MAX), max_array_elements = options.count(0, ENTRIES_MAX),
  max_table_pairs = options.count(0, ENTRIES_MAX), show_types = options.flag,
  show_addresses = options.flag, compact_mode = options.flag,
}

local Dump = {}
Dump.__index = Dump

function Dump:put(text)
  self.size = self.size + #text
  self.out[#self.out + 1] = text
end

local function text_of(value, most)
  local cut = #value > most
  local shown = gsub(format("%q", cut and sub(value, 1, most) or value), "\\\n", "\\n")
  return cut and shown .. "… (" .. #value .. " bytes)" or shown
end

local function key_text(key)
  if type(key) == "string" then
    return find(key, "^[%a_][%w_]*$") and key or "[" .. format("%q", key) .. "]"
  end
  return "[" .. kit.tostring(key) .. "]"
end

local function shape_of(value)
  local length, pairs_count = rawlen(value), 0
  for key in kit.pairs(value) do
    if not (math_type(key) == "integer" and key >= 1 and key <= length) then
      pairs_count = pairs_count + 1
    end
  end
  return length, pairs_count
end

function Dump:line(level)
  if self.how.compact_mode then return self:put(" ") end
  self:put("\n" .. rep(" ", self.how.indent_size * level))
end

function Dump:full()
  return self.size > BYTES_MAX
end

function Dump:table(value, level, path)
  if rawequal(value, null) then return self:put("null") end
  local known = self.open[value]
  if known then return self:put("<cycle: " .. known .. ">") end
  local length, others = shape_of(value)
  local kind = length > 0 and others == 0 and "list" or "table"
  if self.how.show_types then
    self:put(format("(%s, %d) ", kind, length + others))
  end
  local meta = raw_metatable(value)
  if type(meta) == "table" and type(rawget(meta, "__name")) == "string" then
    self:put(rawget(meta, "__name") .. " ")
  end
  if length + others == 0 then return self:put("{}") end
  if level >= self.how.max_depth then
    return self:put(format("{… %d}", length + others))
  end
  self.open[value] = path
  self:put("{")
  self:list_part(value, length, level, path)
  self:map_part(value, length, others, level, path)
  self:line(level)
  self:put("}")
  self.open[value] = nil
end

function Dump:list_part(value, length, level, path)
  local shown = min(length, self.how.max_array_elements)
  for i = 1, shown do
    if self:full() then return end
    self:line(level + 1)
    self:value(rawget(value, i), level + 1, path .. "[" .. i .. "]")
    self:put(",")
  end
  if shown < length then
    self:line(level + 1)
    self:put(format("… %d more,", length - shown))
  end
end

function Dump:map_part(value, length, others, level, path)
  local shown = 0
  for key, inner in kit.pairs(value) do
    if not (math_type(key) == "integer" and key >= 1 and key <= length) then
      if shown == self.how.max_table_pairs or self:full() then break end
      shown = shown + 1
      self:line(level + 1)
      local name = key_text(key)
      self:put(name .. " = ")
      self:value(inner, level + 1, path .. (sub(name, 1, 1) == "[" and name or "." .. name))
      self:put(",")
    end
  end
  if shown < others then
    self:line(level + 1)
    self:put(format("… %d more,", others - shown))
  end
end

function Dump:value(value, level, path)
  local kind = type(value)
  if kind == "table" then return self:table(value, level, path) end
  local typed = self.how.show_types and kind ~= "nil" and kind ~= "function" and kind ~= "thread"
  if typed then self:put("(" .. (math_type(value) or kind) .. ") ") end
  if kind == "string" then return self:put(text_of(value, self.how.max_string_length)) end
  self:put(kit.tostring(value))
end

-- `value` as text; `how` overrides the defaults.
function kit.dump(value, how, label)
  local all = {}
  for name, given in kit.pairs(DEFAULTS) do all[name] = given end
  for name, given in kit.pairs(how or {}) do all[name] = given end
  local one = setmetatable({how = all, out = {}, size = 0, open = {}}, Dump)
  if label ~= nil then one:put(kit.tostring(label) .. " = ") end
  one:value(value, 0, label ~= nil and kit.tostring(label) or "value")
  if one:full() then one:put(" … (cut)") end
  return concat(one.out)
end

kit.dump_options = {known = KNOWN, compact = COMPACT, verbose = VERBOSE}
