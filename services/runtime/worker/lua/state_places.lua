-- `State` of workflows, agents and tools by their id, and what concerns more than one item: copies,
-- moves, clearing, numbers, and the nearest scope that has a key.

local kit = ...

local call, required, scope_of, options = kit.call, kit.required, kit.scope, kit.options
local error, next, pcall, rawget = error, next, pcall, rawget
local select, type, number_kind = select, type, math.type
local State, items = kit.env.State, kit.state

local SERVICE = "llmspell.v1.StateService/"

-- by id ----------------------------------------------------------------------------------------

local function scope_by_id(kind, id)
  if id == nil or id == "" then required(kind .. " id") end
  return (scope_of(kind, id))
end

local function by_id(kind)
  State[kind .. "_get"] = kit.either_way(State, function(id, key)
    return items.load(scope_by_id(kind, id), key)
  end)
  State[kind .. "_set"] = kit.either_way(State, function(id, key, value, how)
    return items.save(scope_by_id(kind, id), key, value, how)
  end)
  State[kind .. "_list"] = kit.either_way(State, function(id)
    return items.list_keys(scope_by_id(kind, id))
  end)
end

--| `State.workflow_get(id, step)`, `State.workflow_set(id, step, value)`,
--| `State.workflow_list(id)`
--- Values of scope `workflow:ID`; their names. Of a run of a workflow (its execution id, or a workflow
--- of the script) what a step gave, by its name or path, and the paths of its steps.
-- State.workflow_get(id, step), State.workflow_set(id, step, value), State.workflow_list(id), and
-- the same of agents and tools: the scopes workflow:ID, agent:ID and tool:ID.
by_id("workflow")
--| `State.agent_get(id, key)`, `State.agent_set(id, key, value)`, `State.agent_list(id)`
--- Likewise of scope `agent:ID`.
by_id("agent")
--| `State.tool_get(id, key)`, `State.tool_set(id, key, value)`, `State.tool_list(id)`
--- Likewise of scope `tool:ID`.
by_id("tool")

-- numbers --------------------------------------------------------------------------------------

local function delta_of(by, args)
  if by == nil then by = 1 end
  if type(by) == "string" then
    args.decimal_delta = by
  elseif number_kind(by) == "integer" then
    args.int_delta = by
  elseif number_kind(by) == "float" then
    args.double_delta = by
  else
    kit.invalid("by", "must be a number, or a decimal number as text")
  end
  return args
end

items.delta_of = delta_of

local function increment(scope, key, by)
  local text, tenant = scope_of(scope, nil, "global")
  local args = delta_of(by, {scope = text, key = items.key_of(key)})
  local answer = call(SERVICE .. "IncrementState", args, tenant)
  if answer.decimal_value then return answer.decimal_value end
  if args.int_delta and answer.double_value == nil then return answer.int_value or 0 end
  return answer.double_value or answer.int_value or 0
end

--| `State.increment(scope, key, by)`
--- Adds 1 or `by`, also when others do at the same time; the sum. `"0.10"`, a decimal as text, is
--- added without loss, and the sum is text. `State.increment(key, 2)` is of scope `global`.
-- State.increment(scope, key, by) → the sum; where there is none it counts as 0. A decimal as text,
-- such as "0.10", is added without loss, and the sum is text too.
-- State.increment(key), State.increment(key, by) with a number: in the global scope.
State.increment = kit.either_way(State, function(...)
  local first, second = ...
  if select("#", ...) < 2 or type(second) == "number" then return increment("global", ...) end
  return increment(first, second, (select(3, ...)))
end)

-- places ---------------------------------------------------------------------------------------

local KNOWN = {if_absent = options.flag}

local function condition(how)
  return options.read(how, KNOWN, "options", true).if_absent and {absent = true} or nil
end

local function transfer(method)
  return kit.either_way(State, function(source_scope, source_key, scope, key, how)
    local source, tenant = scope_of(source_scope, nil, "global")
    call(SERVICE .. method, {
      source_scope = source, source_key = items.key_of(source_key),
      scope = (scope_of(scope, nil, "global")),
      key = items.key_of(key == nil and source_key or key),
      precondition = condition(how),
    }, tenant)
  end)
end

--| `State.copy(scope, key, to_scope, to_key, options)`, `State.move(…)`
--- Copies or moves an item, with its end; without `to_key` under its key. Option `if_absent`:
--- refuse to write over one.
-- State.copy(scope, key, to_scope, to_key?, {if_absent = true}?), and State.move likewise.
State.copy = transfer("CopyState")
State.move = transfer("MoveState")

local function transfer_scope(method, count)
  return kit.either_way(State, function(source_scope, scope, prefix, how)
    local source, tenant = scope_of(source_scope, nil, "global")
    local answer = call(SERVICE .. method, {
      source_scope = source, scope = (scope_of(scope, nil, "global")), prefix = prefix,
      precondition = condition(how),
    }, tenant)
    return answer[count] or 0
  end)
end

--| `State.copy_scope(from, to, prefix, options)`, `State.move_scope(…)`
--- All items of a scope, or those under a prefix, all or none; how many.
-- State.copy_scope(from, to, prefix?, {if_absent = true}?) → how many; State.move_scope likewise.
State.copy_scope = transfer_scope("CopyStateScope", "copied_count")
State.move_scope = transfer_scope("MoveStateScope", "moved_count")

--| `State.clear(scope, prefix)`
--- Removes all items of a scope, or those under a prefix; how many.
-- State.clear(scope, prefix?) → how many items were removed.
State.clear = kit.either_way(State, function(scope, prefix)
  if scope == nil then required("scope") end
  local text, tenant = scope_of(scope, nil, "global")
  local total = 0
  repeat
    local args = {scope = text, prefix = prefix, in_parts = true}
    local answer = call(SERVICE .. "ClearState", args, tenant)
    total = total + (answer.deleted_count or 0)
  until not answer.more
  return total
end)

-- the nearest ----------------------------------------------------------------------------------

local RESOLVE = {
  agent = options.text, tool = options.text, hook = options.text, component = options.text,
  workflow = options.text, session = options.text,
}

local function component_of(near)
  if near.component then return (scope_of(near.component)) end
  for _, kind in next, {"agent", "tool", "hook"} do
    if near[kind] then return kind .. ":" .. near[kind] end
  end
end

--| `State.resolve(key, options)`
--- Value and scope of the first that has the key: `agent`, `tool` or `hook` (an id each; or
--- `component`, a scope), `workflow`, `session`, then `global`.
-- State.resolve(key, {agent = id, workflow = id, session = id}) → value, scope: of the first that has
-- the key, the component's (agent, tool, hook, or component = scope), the workflow's, the session's,
-- or the global scope's; nil where none has.
State.resolve = kit.either_way(State, function(key, near)
  near = options.read(near, RESOLVE, "options", true)
  local ok, answer = pcall(call, SERVICE .. "ResolveState", {
    key = items.key_of(key), component = component_of(near), workflow_id = near.workflow,
    session_id = near.session,
  })
  if ok then return items.value_of(answer.item and answer.item.value), answer.scope end
  if kit.is_failure(answer) and rawget(answer, "reason") == "ITEM_NOT_FOUND" then return nil end
  error(answer, 0)
end)
