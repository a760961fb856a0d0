-- Contexts: facts that agents are told beside what they are asked; and memory that several share, which is
-- kept in State and so outlives the run.

local kit = ...

local options = kit.options
local next, type = next, type
local match = string.match

local contexts = {}
kit.agent_contexts = contexts

local all, made = {}, 0

local INHERITANCE = {isolate = true, copy = true, share = true, inherit = true}

local function inheritance(value, name)
  if not INHERITANCE[options.text(value, name)] then
    kit.invalid(name, "must be isolate, copy, share or inherit")
  end
  return value
end

local function copy(value)
  if type(value) ~= "table" then return value end
  local twin = {}
  for key, inner in next, value do twin[key] = copy(inner) end
  if next(twin) == nil and kit.is_list(value) then kit.list(twin) end
  return twin
end

local function scope(value, name)
  if type(value) == "table" then
    local kind = options.text(value.type, name .. ".type")
    local text = kit.scope(kind, value.id)
    return text
  end
  return (kit.scope(options.text(value, name)))
end

local KNOWN = {
  conversation_id = options.text, user_id = options.text, session_id = options.text, scope = scope,
  inheritance = inheritance, data = options.table, security = options.table, parent = options.text,
}

local function find(id)
  if id == nil then kit.required("context_id") end
  local found = all[options.text(id, "context_id")]
  if not found then
    kit.refuse("FIELD_INVALID", "context_id", "There is no context " .. id .. ".")
  end
  return found
end
contexts.find = find

local function put(context)
  made = made + 1
  context.id = "context_" .. kit.tostring(made)
  all[context.id] = context
  return context.id
end

-- What a child has of its parent's data: nothing, a copy, the same, or what it does not have itself.
local function data_for(parent, how)
  if how == "copy" then return contexts.data(parent) end
  if how == "share" then return parent.data end
  return {}
end

local function child_of(parent, given, how)
  local data = data_for(parent, how)
  for key, value in next, given.data or {} do data[key] = copy(value) end
  return put({
    parent = parent, inheritance = how, data = data, scope = given.scope or parent.scope,
    conversation_id = given.conversation_id or how ~= "isolate" and parent.conversation_id or nil,
    user_id = given.user_id or parent.user_id, session_id = given.session_id or parent.session_id,
    security = given.security or parent.security,
  })
end

-- contexts.create{conversation_id, user_id, session_id, scope, inheritance, data, security, parent} → id.
function contexts.create(given)
  local read = options.read(given, KNOWN, "context")
  if read.parent then return child_of(find(read.parent), read, read.inheritance or "inherit") end
  read.data = copy(read.data or {})
  read.inheritance = read.inheritance or "inherit"
  return put(read)
end

function contexts.create_child(parent, where, how)
  local from = find(parent)
  local given = {scope = where ~= nil and scope(where, "scope") or nil}
  local kind = how == nil and from.inheritance or inheritance(how, "inheritance")
  return child_of(from, given, kind)
end

-- What a context holds, with what it inherits.
function contexts.data(context)
  local found = {}
  if context.inheritance == "inherit" and context.parent then found = contexts.data(context.parent) end
  for key, value in next, context.data do found[key] = copy(value) end
  return found
end

function contexts.update(id, key, value)
  local context = find(id)
  if key == nil then kit.required("key") end
  context.data[options.text(key, "key")] = copy(value)
end

function contexts.get(id, key)
  local context = find(id)
  if key == nil then return contexts.data(context) end
  local value = context.data[options.text(key, "key")]
  while value == nil and context.inheritance == "inherit" and context.parent do
    context = context.parent
    value = context.data[key]
  end
  return copy(value)
end

-- Whether it was there. Children keep what they have of it.
function contexts.remove(id)
  local was = all[options.text(id, "context_id")] ~= nil
  all[id] = nil
  return was
end

-- shared memory --------------------------------------------------------------------------------

local KINDS = {global = true, session = true, workflow = true, agent = true, user = true}

-- "global", "session:x", or {type = "session", id = "x"}.
local function place(where)
  if type(where) == "table" then
    local kind = where.type
    if not KINDS[kind] then
      kit.invalid("scope.type", "must be global, session, workflow, agent or user")
    end
    if kind == "global" then return "global" end
    if where.id == nil and kind == "session" and kit.session_id then return "session:" .. kit.session_id end
    if where.id == nil then kit.required("scope.id") end
    return kind .. ":" .. kit.tostring(where.id)
  end
  local text = options.text(where, "scope")
  if not KINDS[match(text, "^%a+")] then
    kit.invalid("scope", "must be global, session, workflow, agent or user, with an id")
  end
  return text
end

local function key_of(key)
  if key == nil then kit.required("key") end
  return "shared:" .. options.text(key, "key")
end

-- State of the same scope has it under `shared:KEY`.
function contexts.set_shared(where, key, value) kit.state.save(place(where), key_of(key), value) end

function contexts.get_shared(where, key) return kit.state.load(place(where), key_of(key)) end
