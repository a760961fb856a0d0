-- `JSON`: text (RFC 8259) to Lua values and back. Parsing is strict and says where it stopped.
-- null is nil, and JSON.null where that is asked for; NaN and infinity become null when written, as in
-- JavaScript, except where `finite` is asked for; keys are written in order, so equal values give
-- equal text.

local kit = ...

local rawequal = rawequal
local tree, null = kit.tree, kit.null
local concat, error, huge, rawget = table.concat, error, math.huge, rawget
local setmetatable, tonumber, type = setmetatable, tonumber, type
local math_type, utf8_char, utf8_len = math.type, utf8.char, utf8.len
local byte, find, format, gsub = string.byte, string.find, string.format, string.gsub
local match, rep, sub = string.match, string.rep, string.sub

local json = {}
kit.json = json

-- Writing --------------------------------------------------------------------------------------

local ESCAPES = {
  ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r",
  ["\t"] = "\\t",
}

local function escape(letter)
  return ESCAPES[letter] or format("\\u%04x", byte(letter))
end

local function quote(text)
  return '"' .. gsub(text, '[%c"\\]', escape) .. '"'
end

json.quote = quote

local function float(value)
  -- The fewest digits that read back as the same number; 17 always do.
  local text = format("%.15g", value)
  if tonumber(text) ~= value then text = format("%.16g", value) end
  if tonumber(text) ~= value then text = format("%.17g", value) end
  -- 3.0 must not come back as 3.
  if not find(text, "[.e]") then text = text .. ".0" end
  return text
end

local write

local function write_list(walk, out, value, length, finite)
  out[#out + 1] = "["
  for i = 1, length do
    if i > 1 then out[#out + 1] = "," end
    walk:step(i)
    write(walk, out, rawget(value, i), finite)
    walk:back()
  end
  out[#out + 1] = "]"
end

local function write_map(walk, out, value, finite)
  local names, originals = tree.keys(walk, value)
  out[#out + 1] = "{"
  for i = 1, #names do
    local name = names[i]
    walk:step(name)
    walk:count()
    if not utf8_len(name) then walk:fail("is a key that is not UTF-8") end
    out[#out + 1] = (i > 1 and "," or "") .. quote(name) .. ":"
    write(walk, out, rawget(value, originals[name]), finite)
    walk:back()
  end
  out[#out + 1] = "}"
end

local function write_number(walk, value, finite)
  if math_type(value) == "integer" then return format("%d", value) end
  if value == value and value ~= huge and value ~= -huge then return float(value) end
  if finite then walk:fail("is not a finite number") end
  return "null"
end

function write(walk, out, value, finite)
  local kind = type(value)
  walk:count()
  if kind == "nil" or rawequal(value, null) then
    out[#out + 1] = "null"
  elseif kind == "boolean" then
    out[#out + 1] = value and "true" or "false"
  elseif kind == "number" then
    out[#out + 1] = write_number(walk, value, finite)
  elseif kind == "string" then
    if not utf8_len(value) then walk:fail("is text that is not UTF-8") end
    out[#out + 1] = quote(value)
  elseif kind == "table" then
    walk:enter(value)
    local length = tree.list_length(value)
    if length then
      write_list(walk, out, value, length, finite)
    else
      write_map(walk, out, value, finite)
    end
    walk:leave(value)
  else
    walk:fail("is a " .. kind .. ", which JSON cannot hold")
  end
end

local function encode(value, root, finite)
  local walk, out = tree.walk(root), {}
  write(walk, out, value, finite)
  local text = concat(out)
  if #text > kit.limits.bytes then
    walk:fail("takes " .. #text .. " bytes; the limit is " .. kit.limits.bytes)
  end
  return text
end

-- true and the text, or false and why not; `root` names the value in that text.
function json.encode(value, root, finite)
  return tree.guard(encode, value, root, finite)
end

-- Several values as the list of them, holes included; used for what a chunk returns.
function json.encode_list(values, count)
  local parts = {}
  for i = 1, count do
    local ok, text = json.encode(values[i], "result[" .. i .. "]")
    if not ok then return false, text end
    parts[i] = text
  end
  local text = "[" .. concat(parts, ",") .. "]"
  if #text > kit.limits.bytes then
    return false, "result takes " .. #text .. " bytes; the limit is " .. kit.limits.bytes
  end
  return true, text
end

-- Reading --------------------------------------------------------------------------------------

local LITERALS = {["true"] = true, ["false"] = false}
local LETTERS = {
  b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/",
}

local Reader = {}
Reader.__index = Reader

function Reader:fail(what, position)
  local before = sub(self.text, 1, (position or self.position) - 1)
  local _, lines = gsub(before, "\n", "")
  local column = #match(before, "[^\n]*$") + 1
  error({tree = what .. " at line " .. lines + 1 .. ", column " .. column}, 0)
end

function Reader:skip()
  self.position = find(self.text, "[^ \t\r\n]", self.position) or #self.text + 1
end

function Reader:expected(what)
  local letter = sub(self.text, self.position, self.position)
  local found = letter == "" and "the end" or format("%q", letter)
  self:fail("expected " .. what .. ", found " .. found)
end

-- \uXXXX, and two of them for what lies beyond the first 65 536 code points.
function Reader:unicode(at)
  local digits = match(self.text, "^%x%x%x%x", at)
  if not digits then self:fail("\\u needs four hexadecimal digits", at) end
  local code = tonumber(digits, 16)
  if code >= 0xDC00 and code <= 0xDFFF then self:fail("a lone low surrogate", at) end
  if code < 0xD800 or code > 0xDBFF then return utf8_char(code), at + 4 end
  local low = tonumber(match(self.text, "^\\u([dD][c-fC-F]%x%x)", at + 4) or "", 16)
  if not low then self:fail("a lone high surrogate", at) end
  return utf8_char(0x10000 + (code - 0xD800) * 0x400 + (low - 0xDC00)), at + 10
end

function Reader:string()
  local text, parts, at = self.text, {}, self.position + 1
  while true do
    local stop = find(text, '[%c"\\]', at)
    if not stop then self:fail("text without an end") end
    parts[#parts + 1] = sub(text, at, stop - 1)
    local letter = sub(text, stop, stop)
    if letter == '"' then
      self.position = stop + 1
      return concat(parts)
    elseif letter ~= "\\" then
      if letter ~= "\x7F" then self:fail("a control character in text", stop) end
      parts[#parts + 1], at = letter, stop + 1
    else
      local name = sub(text, stop + 1, stop + 1)
      if name == "u" then
        parts[#parts + 1], at = self:unicode(stop + 2)
      else
        if not LETTERS[name] then self:fail("an unknown escape", stop) end
        parts[#parts + 1], at = LETTERS[name], stop + 2
      end
    end
  end
end

function Reader:number()
  local text, from = self.text, self.position
  local whole = match(text, "^-?%d+", from)
  if not whole or find(whole, "^-?0%d") then self:expected("a value") end
  local fraction = match(text, "^%.%d+", from + #whole) or ""
  local exponent = match(text, "^[eE][+-]?%d+", from + #whole + #fraction) or ""
  self.position = from + #whole + #fraction + #exponent
  local value = tonumber(whole .. fraction .. exponent)
  if value == huge or value == -huge then self:fail("a number out of range", from) end
  return value
end

-- `null` is what stands for null in a list or a map: nil unless the caller has another.
function Reader:list(depth)
  local result, count = {}, 0
  self.position = self.position + 1
  self:skip()
  if sub(self.text, self.position, self.position) == "]" then
    self.position = self.position + 1
    return tree.list(result)
  end
  while true do
    count = count + 1
    local value = self:value(depth)
    if value == nil then value = self.null end
    result[count] = value
    self:skip()
    local letter = sub(self.text, self.position, self.position)
    if letter ~= "," and letter ~= "]" then self:expected("',' or ']'") end
    self.position = self.position + 1
    if letter == "]" then return result end
  end
end

function Reader:map(depth)
  local result = {}
  self.position = self.position + 1
  self:skip()
  if sub(self.text, self.position, self.position) == "}" then
    self.position = self.position + 1
    return result
  end
  while true do
    self:skip()
    if sub(self.text, self.position, self.position) ~= '"' then self:expected("a key in quotes") end
    local key = self:string()
    self:skip()
    if sub(self.text, self.position, self.position) ~= ":" then self:expected("':'") end
    self.position = self.position + 1
    local value = self:value(depth)
    if value == nil then value = self.null end
    result[key] = value
    self:skip()
    local letter = sub(self.text, self.position, self.position)
    if letter ~= "," and letter ~= "}" then self:expected("',' or '}'") end
    self.position = self.position + 1
    if letter == "}" then return result end
  end
end

function Reader:value(depth)
  self.nodes = self.nodes + 1
  if self.nodes > kit.limits.nodes then self:fail("more than " .. kit.limits.nodes .. " values") end
  self:skip()
  local letter = sub(self.text, self.position, self.position)
  if letter == "{" or letter == "[" then
    if depth >= kit.limits.depth then self:fail("nested deeper than " .. kit.limits.depth) end
    if letter == "{" then return self:map(depth + 1) end
    return self:list(depth + 1)
  end
  if letter == '"' then return self:string() end
  local word = match(self.text, "^%a+", self.position)
  if not word then return self:number() end
  if word ~= "null" and LITERALS[word] == nil then self:expected("a value") end
  self.position = self.position + #word
  return LITERALS[word]
end

local function parse(text, null_value)
  local reader = setmetatable({text = text, position = 1, nodes = 0, null = null_value}, Reader)
  local value = reader:value(0)
  reader:skip()
  if reader.position <= #text then reader:expected("the end") end
  if value == nil then return null_value end
  return value
end

-- true and the value, or false and why not.
function json.decode(text, null_value)
  return tree.guard(parse, text, null_value)
end

-- Setting out ----------------------------------------------------------------------------------

-- JSON text again, a line for each entry. The text is well formed.
function json.pretty(text, indent)
  local out, at, level = {}, 1, 0
  local step = type(indent) == "string" and indent or rep(" ", indent)
  while true do
    local from, _, sign = find(text, '([%[%]{},:"])', at)
    if not from then
      out[#out + 1] = sub(text, at)
      return concat(out)
    end
    out[#out + 1] = sub(text, at, from - 1)
    at = from + 1
    if sign == '"' then
      local stop = from
      repeat
        stop = find(text, '["\\\\]', stop + 1)
        local escaped = byte(text, stop) == 92
        if escaped then stop = stop + 1 end
      until not escaped
      out[#out + 1] = sub(text, from, stop)
      at = stop + 1
    elseif sign == ":" then
      out[#out + 1] = ": "
    elseif sign == "," then
      out[#out + 1] = ",\n" .. rep(step, level)
    elseif sign == "]" or sign == "}" then
      level = level - 1
      out[#out + 1] = "\n" .. rep(step, level) .. sign
    elseif find(text, "^[%]}]", at) then
      out[#out + 1], at = sub(text, from, at), at + 1
    else
      level = level + 1
      out[#out + 1] = sign .. "\n" .. rep(step, level)
    end
  end
end
