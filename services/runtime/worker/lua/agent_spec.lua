-- What an agent is, read from a table or from a builder's calls: the contract's AgentSpec, and beside it
-- what stays in the script, its functions. Names of old are understood.

local kit = ...

local json, options = kit.json, kit.options
local next, rawequal, type = next, rawequal, type
local match, sub = string.match, string.sub

local spec = {}
kit.agent_spec = spec

local TYPES = {
  llm = "A model with instructions, tools and a conversation.",
  basic = "Repeats what it is told; needs no model, for trying things out.",
  ["tool-orchestrator"] = "A model that may call every tool its caller may, at temperature 0.3.",
}
spec.types = TYPES

local TYPE_NAMES = {"basic", "llm", "tool-orchestrator"}
spec.type_names = TYPE_NAMES

-- schemas --------------------------------------------------------------------------------------

local KINDS = {
  string = true, number = true, integer = true, boolean = true, array = true, object = true,
}
local NO_PARAMETERS = '{"type":"object","properties":{}}'

local function rule_of(given, name)
  if type(given) == "string" then given = {type = given} end
  options.table(given, name)
  local rule = {}
  for key, value in next, given do
    if key ~= "name" and key ~= "required" and key ~= "optional" then rule[key] = value end
  end
  if rule.type ~= nil and not KINDS[rule.type] and type(rule.type) == "string" then
    kit.invalid(name .. ".type", "must be string, number, integer, boolean, array or object")
  end
  return rule, given.required ~= false and not given.optional and given.default == nil
end

-- {city = "string", days = {type = "integer", optional = true}}, or a list of {name, type, …}.
local function schema_of(parameters, field)
  local properties, required = {}, kit.list({})
  for key, given in kit.pairs(parameters) do
    local name = key
    if type(key) == "number" then
      options.table(given, field .. "[" .. kit.tostring(key) .. "]")
      name = options.text(given.name, field .. "[" .. kit.tostring(key) .. "].name")
    end
    local rule, is_needed = rule_of(given, field .. "." .. kit.tostring(name))
    properties[name] = rule
    if is_needed then required[#required + 1] = name end
  end
  return {type = "object", properties = properties, required = required}
end

-- A JSON Schema as text: given as text, as a table, or in the short form.
function spec.schema(given, field)
  if given == nil then return NO_PARAMETERS end
  if type(given) == "string" then
    local ok, read = json.decode(given)
    if not ok or type(read) ~= "table" then kit.invalid(field, "must be a JSON Schema") end
    return given
  end
  options.table(given, field)
  local is_schema = type(given.type) == "string" and KINDS[given.type]
    or type(given.properties) == "table" or given.anyOf ~= nil or given.enum ~= nil
  local schema = is_schema and given or schema_of(given, field)
  local ok, text, cycle = json.encode(schema, field)
  if not ok then kit.unfit(field, text, cycle) end
  return text
end

-- settings -------------------------------------------------------------------------------------

local function texts(value, name)
  if type(value) == "string" then return kit.list({value}) end
  options.table(value, name)
  local copy = kit.list({})
  for i = 1, #value do copy[i] = options.text(value[i], name .. "[" .. i .. "]") end
  return copy
end
spec.texts = texts

local function money(value, name)
  if options.number(value, name) <= 0 then kit.invalid(name, "must be above 0") end
  return value
end

local function temperature(value, name)
  if options.number(value, name) < 0 or value > 2 then
    kit.invalid(name, "must be between 0 and 2")
  end
  return value + 0.0
end

local count = options.count(1)

local FUNCTION = {
  name = options.text, description = options.text, parameters = options.anything,
  schema = options.anything,
  fn = function(value, name)
    if type(value) ~= "function" then kit.invalid(name, "must be a function") end
    return value
  end,
}

-- A function of the script that a model may call like a tool.
function spec.fn_tool(given, field)
  if type(given) ~= "table" then kit.invalid(field, "must be a table of name, description, parameters, fn") end
  local read = options.read({
    name = given.name, description = given.description,
    parameters = options.first(given, "parameters", "parameters_schema", "schema"),
    fn = options.first(given, "fn", "execute", "handler"),
  }, FUNCTION, field)
  if read.name == nil then kit.required(field .. ".name") end
  if read.fn == nil then kit.required(field .. ".fn") end
  return {
    name = read.name, description = read.description or "", fn = read.fn,
    parameters_schema = spec.schema(read.parameters, field .. ".parameters"),
  }
end

local MEMORY = {
  collection = options.text, scope = options.text, limit = count, top_k = count, k = count,
  min_score = options.number, threshold = options.number, read_only = options.flag,
}

local function memory(value, name)
  if value == true or value == nil then value = {} end
  if type(value) == "string" then value = {collection = value} end
  local read = options.read(value, MEMORY, name)
  return {
    collection = read.collection, scope = read.scope and (kit.scope(read.scope)) or nil,
    limit = options.first(read, "limit", "top_k", "k"),
    min_score = options.first(read, "min_score", "threshold"), read_only = read.read_only,
  }
end

local LIMITS = {
  max_execution_time_secs = options.seconds, max_memory_mb = count, max_tool_calls = count,
  max_recursion_depth = count, max_turns = count, max_cost_usd = money,
}

local MODEL = {
  provider = options.text, model_id = options.text, model = options.text, temperature = temperature,
  max_tokens = count, settings = options.table,
}

local CUSTOM_COUNTS = {system_prompt = options.text, max_conversation_length = count}

local function custom(value, name)
  options.table(value, name)
  for key, check in next, CUSTOM_COUNTS do
    if value[key] ~= nil then check(value[key], name .. "." .. key) end
  end
  return value
end

local function tools_of(value, name)
  if type(value) ~= "table" then return texts(value, name) end
  local found = kit.list({})
  for i = 1, #value do
    local place = name .. "[" .. i .. "]"
    found[i] = type(value[i]) == "table" and spec.fn_tool(value[i], place) or options.text(value[i], place)
  end
  return found
end

-- What may be set, by name; the builder has a method of each.
local KNOWN = {
  name = options.text, description = options.text, provider = options.text,
  model = function(value, name)
    if type(value) == "table" then return options.read(value, MODEL, name) end
    return options.text(value, name)
  end,
  system_prompt = options.text, instructions = options.text, temperature = temperature,
  top_p = options.share, seed = options.count(0), stop = texts, max_tokens = count,
  max_conversation_length = count, max_conversation_tokens = count, base_url = options.text,
  api_key = options.text, allowed_tools = tools_of, tools = tools_of, tool_choice = options.text,
  max_execution_time = options.seconds, max_memory_mb = count, max_tool_calls = count,
  max_recursion_depth = count, max_turns = count, max_cost_usd = money, type = options.text,
  agent_type = options.text, custom_config = custom,
  resource_limits = function(value, name) return options.read(value, LIMITS, name) end,
  answer_schema = function(value, name) return spec.schema(value, name) end,
  vector_memory = memory, rag = memory, agents = options.table, session_id = options.text,
  conversation_id = options.text,
}
spec.known = KNOWN

function spec.read(given, field) return options.read(given, KNOWN, field) end

-- reading --------------------------------------------------------------------------------------

-- `provider/model`. A model without a provider is one of openai.
local function full_model(set)
  local model, provider = set.model, set.provider
  if type(model) == "table" then
    provider = model.provider or provider
    model = options.first(model, "model_id", "model")
  end
  if model == nil or model == "" then kit.required("model") end
  if provider ~= nil and provider ~= "" then
    if sub(model, 1, #provider + 1) == provider .. "/" then return model end
    return provider .. "/" .. model
  end
  local before, after = match(model, "^([^/]*)/(.*)$")
  if before == "" then kit.required("provider") end
  if after == "" then kit.required("model") end
  return before and model or "openai/" .. model
end

local function limits_of(set)
  local given = set.resource_limits or {}
  return {
    max_turns = set.max_turns or given.max_turns,
    max_tool_calls = set.max_tool_calls or given.max_tool_calls,
    timeout = set.max_execution_time or given.max_execution_time_secs,
    max_cost_usd = set.max_cost_usd or given.max_cost_usd,
    max_depth = set.max_recursion_depth or given.max_recursion_depth,
    max_tokens = set.max_tokens or type(set.model) == "table" and set.model.max_tokens or nil,
  }
end

-- The memory of the contract: what is only read is `rag`, what is kept too is `vector_memory`.
local function memory_of(set)
  if set.vector_memory and set.rag then
    kit.invalid("use_rag", "cannot be set beside with_vector_memory")
  end
  if not set.rag then return set.vector_memory end
  set.rag.read_only = true
  return set.rag
end

local function custom_of(set)
  local kept, memory_mb = {}, set.max_memory_mb or set.resource_limits and set.resource_limits.max_memory_mb
  for key, value in next, set.custom_config or {} do
    if not CUSTOM_COUNTS[key] then kept[key] = value end
  end
  if type(set.model) == "table" and set.model.settings then kept.model_settings = set.model.settings end
  kept.max_memory_mb = memory_mb
  return next(kept) ~= nil and kept or nil
end

-- Functions and names of tools that were given, apart.
local function split_tools(set)
  local names, functions = kit.list({}), {}
  for _, list in next, {set.allowed_tools or {}, set.tools or {}} do
    for i = 1, #list do
      if type(list[i]) == "table" then
        functions[#functions + 1] = list[i]
      else
        names[#names + 1] = list[i]
      end
    end
  end
  return names, functions
end

function spec.type_of(set)
  local named = set.type or set.agent_type
  return named and TYPES[named] and named or "llm"
end

-- What was set as {spec, functions}: the contract's, without functions and agents, which are added when it
-- is executed. `composite`: it has members instead of a model.
function spec.of(set, composite)
  local kind, custom_config = spec.type_of(set), set.custom_config or {}
  local names, functions = split_tools(set)
  local orchestrates = kind == "tool-orchestrator"
  if orchestrates and #names == 0 then names[1] = "*" end
  local heat = set.temperature or type(set.model) == "table" and set.model.temperature or nil
  local needs_model = kind ~= "basic" and not composite
  local made = {
    name = set.name, description = set.description, type = kind,
    model = (needs_model or set.model) and full_model(set) or nil,
    system_prompt = options.first(set, "system_prompt", "instructions") or custom_config.system_prompt,
    temperature = heat or orchestrates and 0.3 or nil, top_p = set.top_p, seed = set.seed,
    stop = set.stop, tools = names, tool_choice = set.tool_choice, limits = limits_of(set),
    max_conversation_length = set.max_conversation_length or custom_config.max_conversation_length,
    max_conversation_tokens = set.max_conversation_tokens, answer_schema = set.answer_schema,
    memory = memory_of(set), base_url = set.base_url, api_key = set.api_key, custom = custom_of(set),
  }
  return made, functions
end

-- The provider of a spec's model; nil where it has none.
function spec.provider_of(made)
  return made.model and match(made.model, "^([^/]+)/")
end

-- As scripts see it: without the key, empty fields left out.
function spec.shown(made)
  local shown = {}
  for key, value in next, made do
    local is_empty = type(value) == "table" and next(value) == nil or rawequal(value, "")
    if key ~= "api_key" and not is_empty then shown[key] = value end
  end
  local provider = spec.provider_of(made)
  shown.provider, shown.model_id = provider, provider and sub(made.model, #provider + 2)
  shown.allowed_tools = made.tools
  return shown
end
