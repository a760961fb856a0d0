-- How two values differ, place by place: for `Replay.create_comparator` and `Utils.equals`.

local kit = ...

local rawequal = rawequal
local null = kit.null
local rawget, rawlen, setmetatable, type = rawget, rawlen, setmetatable, type
local find, format, sub = string.find, string.format, string.sub

local DIFFERENCES_MAX, TEXT_MAX = 1000, 60

local function shown(value)
  local text = kit.dump(value, kit.dump_options.compact)
  return #text > TEXT_MAX and sub(text, 1, TEXT_MAX) .. "…" or text
end

local function step(path, key)
  if type(key) == "string" and find(key, "^[%a_][%w_]*$") then return path .. "." .. key end
  return path .. "[" .. (type(key) == "string" and format("%q", key) or kit.tostring(key)) .. "]"
end

local function is_list(value) return rawlen(value) > 0 or kit.is_list(value) end

local Walk = {}
Walk.__index = Walk

function Walk:differ(path, kind, description)
  self.places = self.places + 1
  if #self.differences < DIFFERENCES_MAX then
    self.differences[#self.differences + 1] = {path = path, kind = kind, description = description}
  end
end

-- Counts the places of a value, of which each is one difference where the other has nothing.
function Walk:size(value, depth)
  if type(value) ~= "table" or rawequal(value, null) or depth > kit.limits.depth then return 1 end
  local count = 0
  for _, inner in kit.pairs(value) do count = count + self:size(inner, depth + 1) end
  return count > 0 and count or 1
end

function Walk:tables(a, b, path, depth)
  if self.open[a] then return end
  self.open[a] = true
  local some = false
  for key, left in kit.pairs(a) do
    some = true
    local right = rawget(b, key)
    local place = step(path, key)
    if right == nil then
      self.places = self.places + self:size(left, depth) - 1
      self:differ(place, "removed", "removed: " .. shown(left))
    else
      self:values(left, right, place, depth + 1)
    end
  end
  for key, right in kit.pairs(b) do
    some = true
    if rawget(a, key) == nil then
      self.places = self.places + self:size(right, depth) - 1
      self:differ(step(path, key), "added", "added: " .. shown(right))
    end
  end
  if not some then self.places, self.same = self.places + 1, self.same + 1 end
  self.open[a] = nil
end

function Walk:values(a, b, path, depth)
  if depth > kit.limits.depth then return end
  local x, y = type(a), type(b)
  if x == "table" and y == "table" and not rawequal(a, null) and not rawequal(b, null) then
    if is_list(a) ~= is_list(b) then
      return self:differ(path, "type", "a list on one side, a map on the other")
    end
    return self:tables(a, b, path, depth)
  elseif a == b then
    self.places, self.same = self.places + 1, self.same + 1
  elseif x ~= y then
    self:differ(path, "type", format("type: %s became %s", x, y))
  else
    self:differ(path, "changed", format("changed: %s became %s", shown(a), shown(b)))
  end
end

-- {identical, similarity_score (the share of places that are the same), summary, differences}.
function kit.compare(a, b)
  local walk = setmetatable({differences = {}, places = 0, same = 0, open = {}}, Walk)
  walk:values(a, b, "$", 0)
  local count = #walk.differences
  local identical = count == 0
  local score = identical and 1.0 or walk.same / walk.places
  local summary = identical and "identical"
    or format("%d %s; %d of %d places are the same", count, count == 1 and "difference" or "differences",
      walk.same, walk.places)
  return {
    identical = identical, similarity_score = score, summary = summary,
    differences = kit.list(walk.differences),
  }
end
