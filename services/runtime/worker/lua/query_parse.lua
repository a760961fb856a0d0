-- The text of `JSON.query` → a tree of nodes. The language is a part of jq's, listed in
-- docs/reference/lua.md; what is left out is refused by name.

local kit = ...

local error, setmetatable, tonumber = error, setmetatable, tonumber
local find, format, match, sub = string.find, string.format, string.match, string.sub
local concat, utf8_char = table.concat, utf8.char

local query = {}
kit.query = query

local TEXT_BYTES_MAX, DEPTH_MAX = 8192, 64

-- Errors are wrapped so that `tree.guard` can tell them from running out of memory.
function query.fail(text, ...)
  error({tree = format(text, ...)}, 0)
end
local fail = query.fail

-- Words ----------------------------------------------------------------------------------------

local LETTERS = {
  b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/",
}
-- Longest first.
local SIGNS = {
  "?//", "//=", "|=", "+=", "-=", "*=", "/=", "%=", "==", "!=", "<=", ">=", "//", "..", "|", ",",
  ".", "[", "]", "(", ")", "{", "}", ":", ";", "?", "=", "<", ">", "+", "-", "*", "/", "%",
}

local words

-- Text in quotes as its parts: text, or the words of \(…).
local function text_parts(text, at)
  local parts, piece, from = {}, {}, at
  at = at + 1
  while true do
    local stop = find(text, '["\\]', at)
    if not stop then fail("text without an end at %d", from) end
    piece[#piece + 1] = sub(text, at, stop - 1)
    if sub(text, stop, stop) == '"' then
      parts[#parts + 1] = concat(piece)
      return parts, stop + 1
    end
    local name = sub(text, stop + 1, stop + 1)
    if name == "(" then
      parts[#parts + 1], piece = concat(piece), {}
      parts[#parts + 1], at = words(text, stop + 2, ")")
    elseif name == "u" then
      local digits = match(text, "^%x%x%x%x", stop + 2)
      if not digits then fail("\\u needs four hexadecimal digits at %d", stop) end
      piece[#piece + 1], at = utf8_char(tonumber(digits, 16)), stop + 6
    else
      if not LETTERS[name] then fail("an unknown escape at %d", stop) end
      piece[#piece + 1], at = LETTERS[name], stop + 2
    end
  end
end

local function word(text, at)
  if sub(text, at, at) == '"' then
    local parts, after = text_parts(text, at)
    return {kind = "text", value = parts, at = at}, after
  end
  local digits = match(text, "^%d+%.?%d*[eE][+-]?%d+", at) or match(text, "^%d+%.%d+", at)
    or match(text, "^%.%d+", at) or match(text, "^%d+", at)
  if digits then return {kind = "number", value = tonumber(digits), at = at}, at + #digits end
  local field = match(text, "^%.([%a_][%w_]*)", at)
  if field then return {kind = "field", value = field, at = at}, at + #field + 1 end
  local name = match(text, "^%$?[%a_][%w_]*", at)
  if name then
    local variable = sub(name, 1, 1) == "$"
    local value = variable and sub(name, 2) or name
    return {kind = variable and "variable" or "name", value = value, at = at}, at + #name
  end
  for i = 1, #SIGNS do
    local sign = SIGNS[i]
    if sub(text, at, at + #sign - 1) == sign then
      return {kind = "sign", value = sign, at = at}, at + #sign
    end
  end
  fail("%q at %d has no meaning", sub(text, at, at), at)
end

function words(text, at, stop_sign)
  local found, open = {}, 0
  while true do
    at = find(text, "[^ \t\r\n]", at)
    if not at then
      if stop_sign then fail("%q is missing", stop_sign) end
      return found
    end
    local one, after = word(text, at)
    if one.kind == "sign" and one.value == "(" then open = open + 1 end
    if one.kind == "sign" and one.value == ")" then
      if open == 0 and stop_sign then return found, after end
      open = open - 1
    end
    found[#found + 1], at = one, after
  end
end

-- Grammar --------------------------------------------------------------------------------------

local Parser = {}
Parser.__index = Parser

local function parser_of(found, depth)
  return setmetatable({words = found, at = 1, depth = depth}, Parser)
end

function Parser:is(sign)
  local one = self.words[self.at]
  return one and one.kind == "sign" and one.value == sign
end

function Parser:accept(sign)
  if not self:is(sign) then return false end
  self.at = self.at + 1
  return true
end

function Parser:is_word(name)
  local one = self.words[self.at]
  return one and one.kind == "name" and one.value == name
end

function Parser:accept_word(name)
  if not self:is_word(name) then return false end
  self.at = self.at + 1
  return true
end

function Parser:unexpected(wanted)
  local one = self.words[self.at]
  if not one then fail("%s is missing at the end", wanted) end
  local found = one.kind == "text" and "text" or format("%q", kit.tostring(one.value))
  fail("expected %s, found %s at %d", wanted, found, one.at)
end

function Parser:expect(sign)
  if not self:accept(sign) then self:unexpected("'" .. sign .. "'") end
end

function Parser:expect_word(name)
  if not self:accept_word(name) then self:unexpected("'" .. name .. "'") end
end

function Parser:take(kind, wanted)
  local one = self.words[self.at]
  if not one or one.kind ~= kind then self:unexpected(wanted) end
  self.at = self.at + 1
  return one.value
end

-- Text, with its \(…) parsed.
function Parser:text(parts)
  if #parts == 1 then return {op = "literal", value = parts[1]} end
  local nodes = {}
  for i = 1, #parts do
    if i % 2 == 1 then
      nodes[i] = {op = "literal", value = parts[i]}
    else
      local inner = parser_of(parts[i], self.depth + 1)
      nodes[i] = inner:whole()
    end
  end
  return {op = "text", nodes = nodes}
end

function Parser:object()
  local entries = {}
  while not self:accept("}") do
    if #entries > 0 then self:expect(",") end
    local one = self.words[self.at]
    if not one then self:unexpected("'}'") end
    local key, value
    self.at = self.at + 1
    if one.kind == "variable" then
      key, value = {op = "literal", value = one.value}, {op = "variable", name = one.value}
    elseif one.kind == "name" then
      key = {op = "literal", value = one.value}
      value = {op = "field", name = key}
    elseif one.kind == "text" then
      key = self:text(one.value)
      value = {op = "field", name = key}
    elseif one.kind == "sign" and one.value == "(" then
      key = self:pipe()
      self:expect(")")
    else
      self.at = self.at - 1
      self:unexpected("a key")
    end
    if self:accept(":") then
      value = self:alternative()
    elseif not value then
      self:unexpected("':'")
    end
    entries[#entries + 1] = {key = key, value = value}
  end
  return {op = "object", entries = entries}
end

function Parser:condition()
  local test = self:pipe()
  self:expect_word("then")
  local yes, no = self:pipe(), {op = "identity"}
  if self:accept_word("elif") then
    return {op = "if", test = test, yes = yes, no = self:condition()}
  end
  if self:accept_word("else") then no = self:pipe() end
  self:expect_word("end")
  return {op = "if", test = test, yes = yes, no = no}
end

function Parser:reduce()
  local source = self:postfix(true)
  self:expect_word("as")
  local name = self:take("variable", "a variable")
  self:expect("(")
  local start = self:pipe()
  self:expect(";")
  local update = self:pipe()
  self:expect(")")
  return {op = "reduce", source = source, name = name, start = start, update = update}
end

local CONSTANTS = {["true"] = true, ["false"] = false}
local NOT_OFFERED = {
  def = true, foreach = true, label = true, import = true, include = true, input = true,
  inputs = true, env = true, now = true, match = true, capture = true, scan = true, sub = true,
  gsub = true, splits = true,
}

function Parser:call(name)
  if name == "null" then return {op = "literal", value = kit.null} end
  if CONSTANTS[name] ~= nil then return {op = "literal", value = CONSTANTS[name]} end
  if name == "if" then return self:condition() end
  if name == "reduce" then return self:reduce() end
  if name == "try" then
    local body = self:postfix()
    return {op = "try", body = body, catch = self:accept_word("catch") and self:postfix() or nil}
  end
  if NOT_OFFERED[name] then fail("%s is not offered", name) end
  local arguments = {}
  if self:accept("(") then
    repeat arguments[#arguments + 1] = self:pipe() until not self:accept(";")
    self:expect(")")
  end
  local known = query.functions[name .. "/" .. #arguments]
  if not known then fail("there is no %s with %d arguments", name, #arguments) end
  return {op = "call", run = known, arguments = arguments}
end

function Parser:primary()
  local one = self.words[self.at]
  if not one then self:unexpected("an expression") end
  self.at = self.at + 1
  local kind, value = one.kind, one.value
  if kind == "number" then return {op = "literal", value = value} end
  if kind == "text" then return self:text(value) end
  if kind == "variable" then return {op = "variable", name = value} end
  if kind == "field" then
    return {op = "field", name = {op = "literal", value = value}}
  end
  if kind == "name" then return self:call(value) end
  if value == "." then
    local after = self.words[self.at]
    if after and after.kind == "text" then
      self.at = self.at + 1
      return {op = "field", name = self:text(after.value)}
    end
    return {op = "identity"}
  elseif value == ".." then
    return {op = "call", run = query.functions["recurse/0"], arguments = {}}
  elseif value == "(" then
    local inner = self:pipe()
    self:expect(")")
    return inner
  elseif value == "[" then
    if self:accept("]") then return {op = "list"} end
    local inner = self:pipe()
    self:expect("]")
    return {op = "list", body = inner}
  elseif value == "{" then
    return self:object()
  elseif value == "-" then
    return {op = "negate", body = self:postfix()}
  end
  self.at = self.at - 1
  self:unexpected("an expression")
end

function Parser:bracket(source)
  if self:accept("]") then return {op = "each", source = source} end
  if self:accept(":") then
    local stop = self:pipe()
    self:expect("]")
    return {op = "slice", source = source, stop = stop}
  end
  local first = self:pipe()
  if self:accept(":") then
    local stop
    if not self:is("]") then stop = self:pipe() end
    self:expect("]")
    return {op = "slice", source = source, start = first, stop = stop}
  end
  self:expect("]")
  return {op = "field", source = source, name = first}
end

-- `plain`: an `as` after it belongs to somebody else.
function Parser:postfix(plain)
  self.depth = self.depth + 1
  if self.depth > DEPTH_MAX then fail("nested deeper than %d", DEPTH_MAX) end
  local node = self:primary()
  self.depth = self.depth - 1
  while true do
    local one = self.words[self.at]
    if not one then return node end
    if one.kind == "field" then
      self.at = self.at + 1
      node = {op = "field", source = node, name = {op = "literal", value = one.value}}
    elseif self:accept("[") then
      node = self:bracket(node)
    elseif self:accept("?") then
      node = {op = "try", body = node}
    elseif self:is(".") then
      self.at = self.at + 1
      if self:accept("[") then
        node = self:bracket(node)
      else
        local name = self:text(self:take("text", "a name"))
        node = {op = "field", source = node, name = name}
      end
    elseif not plain and self:accept_word("as") then
      local name = self:take("variable", "a variable")
      self:expect("|")
      return {op = "as", source = node, name = name, body = self:pipe()}
    else
      return node
    end
  end
end

-- Operators of one level bind from the left.
local function level(names, word_operators, next_level)
  return function(self)
    local left = next_level(self)
    while true do
      local one = self.words[self.at]
      local kind = one and (word_operators and "name" or "sign")
      if not one or one.kind ~= kind or not names[one.value] then return left end
      self.at = self.at + 1
      left = {op = names[one.value], name = one.value, left = left, right = next_level(self)}
    end
  end
end

local MATH = "arithmetic"
Parser.product = level({["*"] = MATH, ["/"] = MATH, ["%"] = MATH}, false, Parser.postfix)
Parser.sum = level({["+"] = MATH, ["-"] = MATH}, false, Parser.product)

local COMPARE = {
  ["=="] = true, ["!="] = true, ["<"] = true, ["<="] = true, [">"] = true, [">="] = true,
}

function Parser:comparison()
  local left = self:sum()
  local one = self.words[self.at]
  if not one or one.kind ~= "sign" or not COMPARE[one.value] then return left end
  self.at = self.at + 1
  return {op = "compare", name = one.value, left = left, right = self:sum()}
end

Parser.both = level({["and"] = "and"}, true, Parser.comparison)
Parser.either = level({["or"] = "or"}, true, Parser.both)

local UPDATES = {
  ["="] = "=", ["|="] = "|=", ["+="] = "+", ["-="] = "-", ["*="] = "*", ["/="] = "/", ["%="] = "%",
  ["//="] = "//",
}

function Parser:update()
  local left = self:either()
  local one = self.words[self.at]
  local name = one and one.kind == "sign" and UPDATES[one.value]
  if not name then return left end
  self.at = self.at + 1
  return {op = "update", name = name, left = left, right = self:alternative()}
end

function Parser:alternative()
  local left = self:update()
  if self:is("?//") then fail("?// is not offered") end
  if not self:accept("//") then return left end
  return {op = "otherwise", left = left, right = self:alternative()}
end

function Parser:comma()
  local left = self:alternative()
  while self:accept(",") do left = {op = "comma", left = left, right = self:alternative()} end
  return left
end

function Parser:pipe()
  local node = self:comma()
  if self:accept("|") then
    local stages = {node}
    repeat stages[#stages + 1] = self:comma() until not self:accept("|")
    node = {op = "pipe", stages = stages}
  end
  return node
end

function Parser:whole()
  local node = self:pipe()
  if self.words[self.at] then self:unexpected("the end") end
  return node
end

-- The tree of a query; raises what `tree.guard` reads.
function query.parse(text)
  if #text > TEXT_BYTES_MAX then fail("longer than %d bytes", TEXT_BYTES_MAX) end
  return parser_of(words(text, 1), 0):whole()
end
