-- Runs the tree of a query. Each node gives its values one by one to `emit`, with the path that leads
-- to each where somebody asks for paths. It always ends: every step is counted.

local kit = ...

local rawequal = rawequal
local query, tree = kit.query, kit.tree
local value, null = query.value, kit.null
local error, pcall, rawget, setmetatable, type = error, pcall, rawget, setmetatable, type
local fail, spend = query.fail, value.spend

local DEPTH_MAX = 2000

local run
local EVAL = {}
local depth = 0

-- `path` is a list of keys from the query's input, or nil where nobody asks.
function run(node, input, path, names, emit)
  spend(1)
  depth = depth + 1
  if depth > DEPTH_MAX then
    error({tree = "nested deeper than " .. DEPTH_MAX .. " while it runs", final = true}, 0)
  end
  EVAL[node.op](node, input, path, names, emit)
  depth = depth - 1
end
query.run = run

local function longer(path, key)
  if not path then return nil end
  local result, count = {}, #path
  for i = 1, count do result[i] = path[i] end
  result[count + 1] = key
  spend(count)
  return result
end
query.longer = longer

-- What makes new values has no path in the input.
local function values_only(path)
  if path then fail("a path is wanted where a new value is made") end
end

-- As pcall; the depth is what it was before, whatever was left in a hurry.
local function guarded(...)
  local was = depth
  local ok, raised = pcall(...)
  depth = was
  return ok, raised
end
query.guarded = guarded

-- The first value of a node.
local STOP = {}
function query.first(node, input, path, names)
  local found, found_path
  local ok, raised = guarded(run, node, input, path, names, function(one, at)
    found, found_path = one, at
    error(STOP, 0)
  end)
  if not ok and raised ~= STOP then error(raised, 0) end
  return found, found_path
end

function query.all(node, input, names)
  local found = {}
  run(node, input, nil, names, function(one)
    spend(1)
    found[#found + 1] = one
  end)
  return value.list(found)
end

function EVAL.identity(_, input, path, _, emit) emit(input, path) end

function EVAL.literal(node, _, path, _, emit)
  values_only(path)
  emit(node.value)
end

function EVAL.variable(node, _, path, names, emit)
  values_only(path)
  local found = names[node.name]
  if found == nil then fail("$%s is not known", node.name) end
  emit(found)
end

function EVAL.text(node, input, path, names, emit)
  values_only(path)
  local function join(at, text)
    if at > #node.nodes then return emit(text) end
    run(node.nodes[at], input, nil, names, function(one)
      join(at + 1, value.sized(text .. value.text(one)))
    end)
  end
  join(1, "")
end

function EVAL.pipe(node, input, path, names, emit)
  local stages = node.stages
  local function stage(at, given, given_path)
    if at > #stages then return emit(given, given_path) end
    run(stages[at], given, given_path, names, function(one, one_path)
      stage(at + 1, one, one_path)
    end)
  end
  stage(1, input, path)
end

function EVAL.comma(node, input, path, names, emit)
  run(node.left, input, path, names, emit)
  run(node.right, input, path, names, emit)
end

-- What a step such as .a or [] is taken from.
local function from_source(node, input, path, names, go)
  if node.source then return run(node.source, input, path, names, go) end
  go(input, path)
end

function EVAL.field(node, input, path, names, emit)
  from_source(node, input, path, names, function(subject, at)
    run(node.name, input, nil, names, function(key)
      emit(value.at(subject, key), longer(at, key))
    end)
  end)
end

function EVAL.slice(node, input, path, names, emit)
  values_only(path)
  local nothing = {op = "literal", value = null}
  from_source(node, input, nil, names, function(subject)
    run(node.stop or nothing, input, nil, names, function(stop)
      run(node.start or nothing, input, nil, names, function(start)
        emit(value.part(subject, start, stop))
      end)
    end)
  end)
end

local function each(subject, path, emit)
  local kind = value.kind(subject)
  if kind ~= "array" and kind ~= "object" then fail("%s cannot be gone through", kind) end
  local shape = value.shape_of(subject)
  if kind == "array" then
    for i = 1, shape.length do emit(rawget(subject, i), longer(path, i - 1)) end
    return
  end
  for i = 1, #shape.names do
    local name = shape.names[i]
    emit(rawget(subject, shape.originals[name]), longer(path, name))
  end
end
query.each = each

function EVAL.each(node, input, path, names, emit)
  from_source(node, input, path, names, function(subject, at) each(subject, at, emit) end)
end

function EVAL.list(node, input, path, names, emit)
  values_only(path)
  emit(node.body and query.all(node.body, input, names) or value.list({}))
end

function EVAL.object(node, input, path, names, emit)
  values_only(path)
  local function add(at, made)
    local entry = node.entries[at]
    if not entry then
      local result = {}
      for i = 1, #made do result[made[i][1]] = made[i][2] end
      return emit(result)
    end
    run(entry.key, input, nil, names, function(key)
      if type(key) ~= "string" then fail("a key must be text, not %s", value.kind(key)) end
      run(entry.value, input, nil, names, function(one)
        add(at + 1, longer(made, {key, one}))
      end)
    end)
  end
  add(1, {})
end

EVAL["if"] = function(node, input, path, names, emit)
  run(node.test, input, nil, names, function(test)
    run(value.is_true(test) and node.yes or node.no, input, path, names, emit)
  end)
end

-- Errors of the body are caught; those of what comes after it are not.
function EVAL.try(node, input, path, names, emit)
  local outside
  local ok, raised = guarded(run, node.body, input, path, names, function(one, at)
    local fine, later = guarded(emit, one, at)
    if not fine then
      outside = {later}
      error(later, 0)
    end
  end)
  if ok then return end
  if outside then error(outside[1], 0) end
  if type(raised) ~= "table" or raised.tree == nil or raised.final then error(raised, 0) end
  if node.catch then
    values_only(path)
    local what = raised.value
    if what == nil then what = raised.tree end
    run(node.catch, what, nil, names, emit)
  end
end

local function bound(names, name, given)
  local inner = setmetatable({}, {__index = names})
  inner[name] = given
  return inner
end

EVAL["as"] = function(node, input, path, names, emit)
  from_source(node, input, nil, names, function(given)
    run(node.body, input, path, bound(names, node.name, given), emit)
  end)
end

function EVAL.reduce(node, input, path, names, emit)
  values_only(path)
  run(node.start, input, nil, names, function(sum)
    run(node.source, input, nil, names, function(given)
      local last = null
      run(node.update, sum, nil, bound(names, node.name, given), function(one) last = one end)
      sum = last
    end)
    emit(sum)
  end)
end

function EVAL.negate(node, input, path, names, emit)
  values_only(path)
  run(node.body, input, nil, names, function(one) emit(value.arithmetic("-", 0, one)) end)
end

local function two(node, input, path, names, fn)
  values_only(path)
  run(node.right, input, nil, names, function(right)
    run(node.left, input, nil, names, function(left) fn(left, right) end)
  end)
end

function EVAL.arithmetic(node, input, path, names, emit)
  two(node, input, path, names, function(left, right)
    emit(value.arithmetic(node.name, left, right))
  end)
end

local HOLDS = {
  ["=="] = function(order) return order == 0 end, ["!="] = function(order) return order ~= 0 end,
  ["<"] = function(order) return order < 0 end, ["<="] = function(order) return order <= 0 end,
  [">"] = function(order) return order > 0 end, [">="] = function(order) return order >= 0 end,
}

function EVAL.compare(node, input, path, names, emit)
  local holds = HOLDS[node.name]
  two(node, input, path, names, function(left, right) emit(holds(value.compare(left, right))) end)
end

local function logic(decides)
  return function(node, input, path, names, emit)
    values_only(path)
    run(node.left, input, nil, names, function(left)
      if value.is_true(left) == decides then return emit(decides) end
      run(node.right, input, nil, names, function(right) emit(value.is_true(right)) end)
    end)
  end
end
EVAL["and"], EVAL["or"] = logic(false), logic(true)

-- The left side's true values; where there are none, or it fails, the right side's.
function EVAL.otherwise(node, input, path, names, emit)
  local found = {}
  EVAL.try({body = node.left}, input, path, names, function(one, at)
    if value.is_true(one) then found[#found + 1] = {one, at} end
  end)
  if #found == 0 then return run(node.right, input, path, names, emit) end
  for i = 1, #found do emit(found[i][1], found[i][2]) end
end

function EVAL.call(node, input, path, names, emit)
  node.run(input, path, names, emit, node.arguments)
end

-- Paths ----------------------------------------------------------------------------------------

function query.paths(node, input, names)
  local found = {}
  run(node, input, {}, names, function(_, path) found[#found + 1] = path end)
  return found
end

-- A copy of `subject` with what is at `path` changed by `change`; `at` is where the path begins.
function query.set(subject, path, change, at)
  at = at or 1
  if at > #path then return change(subject) end
  local key = path[at]
  local given = query.set(value.at(subject, key), path, change, at + 1)
  if rawequal(subject, null) then
    if type(key) == "string" then return {[key] = given} end
    subject = value.list({})
  end
  local result = value.copy(subject)
  if type(key) == "string" then
    result[key] = given
    return value.changed(result)
  end
  local count = value.shape_of(subject).length
  local position = kit.integer(key)
  if not position then fail("a position must be a whole number") end
  if position < 0 then position = position + count end
  if position < 0 then fail("a position before the first") end
  if position > kit.limits.nodes then fail("a position beyond %d", kit.limits.nodes) end
  for i = count + 1, position do result[i] = null end
  spend(position > count and position - count or 0)
  result[position + 1] = given
  return value.list(value.changed(result))
end

-- A copy of `subject` without what is at `path`.
function query.drop(subject, path, at)
  at = at or 1
  local key, result = path[at], nil
  if key == nil or rawequal(subject, null) then return null end
  if at < #path then
    local inner = value.at(subject, key)
    if rawequal(inner, null) then return subject end
    return query.set(subject, {key}, function() return query.drop(inner, path, at + 1) end)
  end
  if value.kind(subject) == "object" then
    if rawequal(value.at(subject, key), null) and type(key) ~= "string" then return subject end
    result = value.copy(subject)
    result[key] = nil
    return value.changed(result)
  end
  local count, position = value.shape_of(subject).length, kit.integer(key)
  if position and position < 0 then position = position + count end
  result = {}
  for i = 1, count do
    if i - 1 ~= position then result[#result + 1] = rawget(subject, i) end
  end
  spend(count)
  return value.list(result)
end

local function update_with(node, current, right)
  if node.name == "=" then return right end
  if node.name == "//" then return value.is_true(current) and current or right end
  return value.arithmetic(node.name, current, right)
end

function EVAL.update(node, input, path, names, emit)
  values_only(path)
  local places = query.paths(node.left, input, names)
  if node.name == "|=" then
    local result, gone = input, {}
    for i = 1, #places do
      local keep = true
      result = query.set(result, places[i], function(current)
        local made = query.first(node.right, current, nil, names)
        if made == nil then keep = false end
        return made == nil and current or made
      end)
      if not keep then gone[#gone + 1] = places[i] end
    end
    -- The last first, so that positions before it stay what they are.
    for i = #gone, 1, -1 do result = query.drop(result, gone[i]) end
    return emit(result)
  end
  run(node.right, input, nil, names, function(right)
    local result = input
    for i = 1, #places do
      result = query.set(result, places[i], function(current)
        return update_with(node, current, right)
      end)
    end
    emit(result)
  end)
end

-- All ------------------------------------------------------------------------------------------

-- Null inside a value stays kit.null; a value that is null itself is nil.
local function outcome(text, input)
  value.begin()
  depth = 0
  local node = query.parse(text)
  local found = query.all(node, input == nil and null or input, {})
  return found
end

-- true and the list of a query's values, or false and why not.
function query.evaluate(text, input)
  local ok, found = tree.guard(outcome, text, input)
  value.finish()
  return ok, found
end
