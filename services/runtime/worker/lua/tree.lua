-- How a Lua value is read as a tree of lists and maps, for both codecs: limits, cycles, and errors
-- that name the place. Raw access only, so no metamethod of a script runs here.

local kit = ...

local error, next, pcall, rawlen = error, next, pcall, rawlen
local setmetatable, tostring, type = setmetatable, tostring, type
local concat, sort, math_type = table.concat, table.sort, math.type
local find, format = string.find, string.format

local tree = {}
kit.tree = tree

local Walk = {}
Walk.__index = Walk

-- Tables that stay lists even when empty. Keys are weak: marking does not keep a table alive.
local lists = setmetatable({}, {__mode = "k"})

-- Null inside a list or a map, where nil cannot stand. Elsewhere null is nil.
kit.null = setmetatable({}, {
  __name = "null", __metatable = false, __newindex = function() error("null holds nothing", 2) end,
})

function tree.list(value)
  lists[value] = true
  return value
end

function kit.is_list(value)
  return lists[value] == true
end

function tree.walk(root)
  return setmetatable({root = root, path = {}, depth = 0, nodes = 0, open = {}}, Walk)
end

local function place(walk, depth)
  local words = {walk.root}
  for i = 1, depth or walk.depth do
    local key = walk.path[i]
    if type(key) == "string" and find(key, "^[%a_][%w_]*$") then
      words[#words + 1] = "." .. key
    elseif type(key) == "number" then
      words[#words + 1] = "[" .. tostring(key) .. "]"
    else
      words[#words + 1] = "[" .. format("%q", tostring(key)) .. "]"
    end
  end
  return concat(words)
end

-- Errors are wrapped so that `guard` can tell them from running out of memory.
function Walk:fail(text, cycle)
  error({tree = place(self) .. " " .. text, cycle = cycle}, 0)
end

-- A table that is met again inside itself: where, and what it leads back to.
local function fail_cyclic(walk, depth)
  local cycle = place(walk) .. " → " .. place(walk, depth)
  walk:fail("contains itself (" .. cycle .. ")", cycle)
end

function Walk:count()
  self.nodes = self.nodes + 1
  if self.nodes > kit.limits.nodes then
    self:fail("is part of more than " .. kit.limits.nodes .. " values")
  end
end

function Walk:enter(value)
  if self.open[value] then fail_cyclic(self, self.open[value]) end
  if self.depth >= kit.limits.depth then
    self:fail("is nested deeper than " .. kit.limits.depth)
  end
  self.open[value] = self.depth
end

function Walk:leave(value)
  self.open[value] = nil
end

function Walk:step(key)
  self.depth = self.depth + 1
  self.path[self.depth] = key
end

function Walk:back()
  self.depth = self.depth - 1
end

-- The length of a list, or nil for a map. A list has all of 1..n and no other number; text keys
-- beside them are dropped. An empty table is a map unless it was marked.
function tree.list_length(value)
  local length, found = rawlen(value), 0
  if length == 0 then return lists[value] and next(value) == nil and 0 or nil end
  for key in next, value do
    if type(key) == "number" then
      if math_type(key) ~= "integer" or key < 1 or key > length then return nil end
      found = found + 1
    end
  end
  return found == length and length or nil
end

-- Names the first key that cannot be written, in the order in which scripts meet keys.
local function fail_keys(walk, value)
  local names = {}
  for key in kit.pairs(value) do
    if type(key) ~= "number" and type(key) ~= "string" then
      walk:fail("has a key that is a " .. type(key))
    end
    local name = tostring(key)
    if names[name] then walk:fail("has the key " .. name .. " as number and as text") end
    names[name] = true
  end
end

-- The keys of a map as text, in order, and what each stands for: equal tables give equal bytes.
function tree.keys(walk, value)
  local names, originals = {}, {}
  for key in next, value do
    local name = key
    if type(key) == "number" then
      name = tostring(key)
    elseif type(key) ~= "string" then
      fail_keys(walk, value)
    end
    if originals[name] ~= nil then fail_keys(walk, value) end
    names[#names + 1] = name
    originals[name] = key
  end
  sort(names)
  return names, originals
end

-- Runs a codec; gives true and its result, or false, a text, and where that is the matter the cycle.
-- Running out of memory passes on.
function tree.guard(fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then return true, result end
  if type(result) == "table" and result.tree then
    if result.cycle then return false, result.tree, result.cycle end
    return false, result.tree
  end
  error(result, 0)
end
