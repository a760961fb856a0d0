-- `State.batch`: several changes and the conditions for them, all of them or none.

local kit = ...

local call, json, options, required = kit.call, kit.json, kit.options, kit.required
local next, type = next, type
local State, items = kit.env.State, kit.state

local BATCH = "llmspell.v1.StateService/BatchState"

local WHERE = {scope = options.anything}
local KINDS = {
  set = {
    set = options.anything, value = options.anything, ttl = options.seconds,
    sensitive = options.flag,
  },
  increment = {increment = options.anything, by = options.anything},
  delete = {delete = options.anything},
  check = {
    check = options.anything, revision = options.count(0), absent = options.flag,
    present = options.flag,
  },
}
for _, known in next, KINDS do known.scope = WHERE.scope end

-- Which kind a part is, by the one name that it must have.
local function kind_of(part, place)
  if type(part) ~= "table" then kit.invalid(place, "must be a table, not a " .. type(part)) end
  local found
  for kind in next, KINDS do
    if part[kind] ~= nil then
      if found then kit.invalid(place, "must have only one of check, delete, increment, set") end
      found = kind
    end
  end
  if not found then kit.invalid(place, "must have one of check, delete, increment, set") end
  return found
end

local function condition(part, place)
  local given = {revision = part.revision, absent = part.absent or nil, present = part.present or nil}
  local name = next(given)
  if name == nil or next(given, name) ~= nil then
    kit.invalid(place, "must have one of revision, absent, present")
  end
  return given
end

local WRITES = {}

function WRITES.set(write, part, place)
  if part.value == nil then required(place .. ".value") end
  write.set, write.ttl = items.payload_of(part.value, part.sensitive), part.ttl
end

function WRITES.increment(write, part)
  write.increment = items.delta_of(part.by, {})
end

function WRITES.delete(write) write["delete"] = true end

local function sum_of(sum)
  return sum.decimal_value or sum.double_value or sum.int_value or 0
end

--| `State.batch{part, …}`
--- Changes and the conditions for them, all or none: `{set = key, value, ttl, sensitive}`,
--- `{increment = key, by}`, `{delete = key}`, `{check = key, revision}` (or `absent` or
--- `present`), each with a `scope` where it is not `global`. `{revision, deleted_count, sums}`;
--- `sums` are those of the increments, in their order.
-- State.batch{part, …} → {revision, deleted_count, sums}. A part is {set = key, value, ttl, sensitive},
-- {increment = key, by}, {delete = key} or {check = key, revision or absent or present}, each with a
-- scope where it is not the global one. `sums`: what its increments made, in their order.
State.batch = kit.either_way(State, function(parts)
  if parts == nil then required("parts") end
  options.table(parts, "parts")
  local checks, writes, tenant = kit.list({}), kit.list({}), nil
  for number = 1, #parts do
    local place = "parts[" .. number .. "]"
    local kind = kind_of(parts[number], place)
    local part = options.read(parts[number], KINDS[kind], place, true)
    local scope, other = kit.scope(part.scope, nil, "global")
    if number > 1 and other ~= tenant then
      kit.invalid(place .. ".scope", "must be of the same tenant as those before")
    end
    tenant = other
    local entry = {scope = scope, key = items.key_of(part[kind])}
    if kind == "check" then
      entry.precondition = condition(part, place)
      checks[#checks + 1] = entry
    else
      WRITES[kind](entry, part, place)
      writes[#writes + 1] = entry
    end
  end
  local answer = call(BATCH, {checks = checks, writes = writes}, tenant)
  local sums = {}
  for i, sum in next, answer.sums or {} do sums[i] = sum_of(sum) end
  return {revision = answer.revision, deleted_count = answer.deleted_count or 0, sums = sums}
end)
