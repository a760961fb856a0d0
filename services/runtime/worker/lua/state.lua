-- `State`: values that outlive the run. They are kept as JSON, so what JSON can hold, State can.
-- Scopes are read as scope.lua says. A bare kind such as "custom" or "workflow" is its `default`
-- (custom:default), and a colon at the start of a key is dropped when writing as when reading, so
-- State.save("custom", ":demo:step", v) is found by State.load("custom", ":demo:step").

local kit = ...

local call, json, options, required = kit.call, kit.json, kit.options, kit.required
local scope_of = kit.scope
local next, pcall, error, select, type = next, pcall, error, select, type
local gsub, rawget = string.gsub, rawget

local GET, SET = "llmspell.v1.StateService/GetState", "llmspell.v1.StateService/SetState"
local DELETE, LIST = "llmspell.v1.StateService/DeleteState", "llmspell.v1.StateService/ListState"
local PAGE_SIZE = 1000

local State = {}
kit.env.State = State

local function key_of(key)
  if key == nil then required("key") end
  if type(key) == "number" then key = kit.tostring(key) end
  if type(key) ~= "string" then kit.invalid("key", "must be text, not a " .. type(key)) end
  return (gsub(key, "^:", ""))
end

local KNOWN = {ttl = options.seconds, sensitive = options.flag}

-- A value as it travels; `sensitive`: to be kept out of logs, events, errors and exports.
local function payload_of(value, sensitive)
  local ok, document, cycle = json.encode(value, "value", true)
  if not ok then kit.unfit("value", document, cycle) end
  return {json = document, sensitive = sensitive}
end

local function delete(scope, key)
  local text, tenant = scope_of(scope, nil, "global")
  call(DELETE, {scope = text, key = key_of(key)}, tenant)
end

local function save(scope, key, value, how)
  if value == nil then return delete(scope, key) end
  local text, tenant = scope_of(scope, nil, "global")
  local payload = payload_of(value, nil)
  how = options.read(how, KNOWN)
  payload.sensitive = how.sensitive
  call(SET, {scope = text, key = key_of(key), value = payload, ttl = how.ttl}, tenant)
end

-- The value of an item, whoever wrote it: text and bytes come as strings.
local function value_of(payload)
  if type(payload) ~= "table" then return payload end
  if payload.json == nil then return payload.text or payload.raw end
  local ok, value = json.decode(payload.json)
  if not ok then error("State: the stored JSON cannot be read: " .. value, 0) end
  return value
end

local function load(scope, key)
  local text, tenant = scope_of(scope, nil, "global")
  local ok, answer = pcall(call, GET, {scope = text, key = key_of(key)}, tenant)
  if ok then return value_of(answer.item and answer.item.value) end
  if kit.is_failure(answer) and rawget(answer, "reason") == "ITEM_NOT_FOUND" then
    return nil
  end
  error(answer, 0)
end

-- (key) means the global scope, (scope, key) a named one.
local function scoped(fn)
  return kit.either_way(State, function(...)
    if select("#", ...) < 2 then return fn("global", (...)) end
    return fn(...)
  end)
end

--| `State.save(scope, key, value, options)`
--- Writes. `options.ttl` is in seconds; `options.sensitive = true` keeps the value out of logs,
--- events, errors and exports. `nil` removes the item.
-- State.save(scope, key, value, {ttl = seconds, sensitive = true}?); nil removes the item. What is
-- sensitive is kept out of logs, events, errors and exports.
State.save = kit.either_way(State, save)

--| `State.set(key, value)`
--- As `State.save` in scope `global`; with three arguments it is `State.save`.
-- State.set(key, value), or as State.save with three arguments or more.
State.set = kit.either_way(State, function(...)
  if select("#", ...) < 3 then
    local key, value = ...
    return save("global", key, value)
  end
  return save(...)
end)

--| `State.load(scope, key)`
--- The value, or `nil`.
-- State.load(scope, key), State.get(scope, key), or with the key alone: the value or nil.
State.load = scoped(load)
--| `State.get(key)`
--- As `State.load` in scope `global`; with two arguments it is `State.load`.
State.get = State.load

--| `State.delete(scope, key)`
--- Removes; no error where there is none. With one argument in scope `global`.
-- State.delete(scope, key); no error where there is none.
State.delete = scoped(delete)

local function list_keys(scope, prefix)
  local text, tenant = scope_of(scope, nil, "global")
  local keys, token = {}, nil
  repeat
    local answer = call(LIST, {
      scope = text, prefix = prefix, keys_only = true, page_size = PAGE_SIZE, page_token = token,
    }, tenant)
    for _, item in next, answer.items or {} do keys[#keys + 1] = item.key end
    token = answer.next_page_token
  until token == nil or token == ""
  return keys
end

--| `State.list_keys(scope, prefix)`
--- All keys in order.
-- State.list_keys(scope?, prefix?) → all keys, in order.
State.list_keys = kit.either_way(State, list_keys)

-- For the parts that follow.
kit.state = {
  key_of = key_of, value_of = value_of, payload_of = payload_of, save = save, load = load,
  list_keys = list_keys,
}
