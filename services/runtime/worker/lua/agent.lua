-- `Agent`: a model with instructions, tools and a conversation. An agent that a script builds lives in
-- the run; one that is registered is the tenant's, and clients see it too.

local kit = ...

local contexts, instances = kit.agent_contexts, kit.agent_instances
local options, run, spec, watch = kit.options, kit.agent_run, kit.agent_spec, kit.agent_watch
local next, type = next, type
local gsub, lower = string.gsub, string.lower

local SERVICE = "llmspell.v1.AgentService/"
local PAGE_SIZE = 1000

local Agent = {}
kit.env.Agent = Agent

local function either_way(fn) return kit.either_way(Agent, fn) end

-- building -------------------------------------------------------------------------------------

local function add_all(list, added)
  for i = 1, #added do list[#list + 1] = added[i] end
  return list
end

local MANY = {allowed_tools = true, tools = true, stop = true}

local function new_builder()
  local builder, set = {}, {}
  for name, check in next, spec.known do
    builder[name] = function(self, value)
      if value == nil then kit.required(name) end
      local checked = check(value, name)
      set[name] = MANY[name] and set[name] and add_all(set[name], checked) or checked
      return self
    end
  end
  function builder.allow_tool(self, name)
    set.allowed_tools = add_all(set.allowed_tools or kit.list({}), {options.text(name, "tool")})
    return self
  end
  function builder.tool(self, given)
    if type(given) == "string" then return builder.allow_tool(self, given) end
    set.tools = add_all(set.tools or kit.list({}), {spec.fn_tool(given, "tool")})
    return self
  end
  function builder.agent(self, agent, how)
    how = how or {}
    set.agents = add_all(set.agents or {}, {
      {agent = agent, tool_name = how.tool_name, description = how.description},
    })
    return self
  end
  function builder.with_vector_memory(self, given)
    set.vector_memory = spec.known.vector_memory(given, "with_vector_memory")
    return self
  end
  function builder.use_rag(self, given)
    set.rag = spec.known.rag(given, "use_rag")
    return self
  end
  function builder.build()
    local copy = {}
    for name, value in next, set do copy[name] = value end
    return instances.make(copy)
  end
  return builder
end

--| `Agent.builder()`
--- Builds an agent step by step; each call gives the builder: `:name(s):model("provider/model")
--- :system_prompt(s):allow_tool(name):…:build()`. There are `description`, `provider`,
--- `temperature`, `top_p`, `seed`, `stop`, `max_tokens`, `max_conversation_length`,
--- `max_conversation_tokens`, `base_url`, `api_key`, `allowed_tools(list)`, `tool_choice`,
--- `max_execution_time(seconds)`, `max_memory_mb` (kept, without effect), `max_tool_calls`, `max_turns`,
--- `max_recursion_depth`, `max_cost_usd`, `type`, `custom_config{…}`, `resource_limits{…}`,
--- `answer_schema(schema)`, `session_id`, `conversation_id`; a function of the script as a tool with
--- `tool{name, description, parameters, fn}`; another agent as a tool with `agent(agent, {tool_name,
--- description})`; memory by meaning with `with_vector_memory{collection, scope, limit, min_score}`,
--- or documents that are only read with `use_rag{…}`. `build()` raises where the model or its
--- provider is missing, and where an agent of the run has the name.
-- Agent.builder():…:build() → instance.
Agent.builder = either_way(new_builder)

local function read(given, field)
  if given == nil then kit.required(field) end
  options.table(given, field)
  local set = {}
  for name, value in kit.pairs(given) do set[name] = value end
  -- The builder's own names mean the same in a table.
  if set.with_vector_memory ~= nil then set.vector_memory = set.with_vector_memory end
  if set.use_rag ~= nil then set.rag = set.use_rag end
  set.with_vector_memory, set.use_rag = nil, nil
  return spec.read(set, field)
end

--| `Agent.create{name, model, system_prompt, tools, …}`
--- Builds one from a table, with the builder's names. `tools` may hold names and tables with `fn`.
-- Agent.create{…} → instance.
Agent.create = either_way(function(given) return instances.make(read(given, "agent")) end)

--| `Agent.create_from_template(name, type, params)`
--- Builds one of a type, see `Agent.list_templates`, with `params` as `Agent.create` takes them.
-- Agent.create_from_template(name, type, params?) → instance.
Agent.create_from_template = either_way(function(name, kind, params)
  options.text(kind, "template")
  if not spec.types[kind] then
    kit.invalid("template", "must be one of llm, basic, tool-orchestrator")
  end
  local set = read(params or {}, "params")
  set.name, set.type = options.text(name, "name"), kind
  return instances.make(set)
end)

-- registering ----------------------------------------------------------------------------------

--| `Agent.register{name, description, model{provider, model_id, …}, allowed_tools, custom_config,
--| resource_limits, replace}`
--- Registers an agent for the tenant; its name. Raises `AGENT_EXISTS` unless `replace = true`.
-- Agent.register{…, replace = false} → name. Functions of the script cannot be registered.
Agent.register = either_way(function(given)
  options.table(given, "agent")
  local replace, rest = given.replace, {}
  for key, value in kit.pairs(given) do
    if key ~= "replace" then rest[key] = value end
  end
  local set = read(rest, "agent")
  if set.name == nil then kit.required("agent.name") end
  local made, functions = spec.of(set)
  if #functions > 0 then kit.invalid("agent.tools", "must be names: functions live in a run only") end
  made.agents = kit.list({})
  for i, used in next, instances.used(set) do
    if not used.agent.registered then kit.invalid("agent.agents", "must be registered themselves") end
    made.agents[i] = {
      tool_name = used.tool_name, description = used.description, agent = {name = used.agent.name},
    }
  end
  local answer = kit.call(SERVICE .. "CreateAgent", {
    spec = made, replace = replace ~= nil and options.flag(replace, "replace") or nil,
  })
  return answer.agent.spec.name
end)

--| `Agent.registered()`, `Agent.unregister(name)`
--- Names of the tenant's agents; removes one, whether it was there.
-- Agent.registered() → names.
Agent.registered = either_way(function()
  local found, token = kit.list({}), nil
  repeat
    local answer = kit.call(SERVICE .. "ListAgents", {page_size = PAGE_SIZE, page_token = token})
    for _, one in next, answer.agents or {} do found[#found + 1] = one.spec.name end
    token = answer.next_page_token
  until token == nil or token == ""
  return found
end)

-- Agent.unregister(name) → whether it was there.
Agent.unregister = either_way(function(name)
  return kit.call(SERVICE .. "DeleteAgent", {name = options.text(name, "name")}).deleted
end)

-- finding --------------------------------------------------------------------------------------

--| `Agent.get(name)`
--- An agent of the run, or a registered one; nil where there is neither.
-- Agent.get(name) → instance or nil.
Agent.get = either_way(function(name)
  local one = instances.own(options.text(name, "name")) or instances.registered(name)
  return one and instances.instance_of(one)
end)

--| `Agent.list()`, `Agent.list_instances()`
--- `{name, id, type, description, model, state}` of the agents of the run; their names.
-- Agent.list() → {name, …} of each.
Agent.list = either_way(function()
  local found = kit.list({})
  for i, one in next, instances.all() do
    found[i] = {
      name = one.name, id = one.id, type = one.spec.type, description = one.spec.description,
      model = one.spec.model, state = one.life:state(),
    }
  end
  return found
end)

-- Agent.list_instances() → names.
Agent.list_instances = either_way(function()
  local found = kit.list({})
  for i, one in next, instances.all() do found[i] = one.name end
  return found
end)

--| `Agent.discover()`, `Agent.list_templates()`, `Agent.get_info(type)`
--- The types of agents, `{type, description}`; their names; `{name, description, category,
--- complexity, required_parameters, optional_parameters}` of one.
-- Agent.discover() → {type, description} of each.
Agent.discover = either_way(function()
  local found = kit.list({})
  for i, name in next, spec.type_names do found[i] = {type = name, description = spec.types[name]} end
  return found
end)

-- Agent.list_templates() → names.
Agent.list_templates = either_way(function()
  local found = kit.list({})
  for i, name in next, spec.type_names do found[i] = name end
  return found
end)

-- Agent.get_info(type) → what it is and takes.
Agent.get_info = either_way(function(kind)
  local description = spec.types[options.text(kind, "type")]
  if not description then kit.invalid("type", "must be one of llm, basic, tool-orchestrator") end
  return {
    name = kind, description = description, category = "agent", complexity = "standard",
    required_parameters = kit.list({"name"}),
    optional_parameters = kit.list({"model_config", "resource_limits", "creation_hooks"}),
  }
end)

local function capabilities_of(one)
  local made = one.spec
  local calls = #(made.tools or {}) + #one.functions + #one.agents > 0
  local provider = instances.provider_of(made).capabilities or {}
  return {
    supports_streaming = made.type ~= "basic", supports_tools = calls, supports_context = true,
    supports_multimodal = provider.multimodal or false, supports_memory = made.memory ~= nil,
    supports_composition = one.composite ~= nil,
  }
end

--| `Agent.list_capabilities()`, `Agent.discover_by_capability(name)`
--- By name `{id, name, description, config, capabilities}`; names of the agents that have one, such
--- as `supports_tools`, `memory`, or that may call a tool of that name.
-- Agent.list_capabilities() → by name.
Agent.list_capabilities = either_way(function()
  local found = {}
  for _, one in next, instances.all() do
    local made = one.spec
    found[one.name] = {
      id = one.id, name = one.name, description = made.description,
      config = {
        system_prompt = made.system_prompt, temperature = made.temperature,
        max_tokens = made.limits and made.limits.max_tokens,
      },
      capabilities = capabilities_of(one),
    }
  end
  return found
end)

local function may_call(one, name)
  for _, tool in next, one.spec.tools or {} do
    if tool == name then return true end
  end
  for _, tool in next, one.functions do
    if tool.name == name then return true end
  end
  return false
end

-- Agent.discover_by_capability(name) → names.
Agent.discover_by_capability = either_way(function(name)
  options.text(name, "capability")
  local full, found = "supports_" .. gsub(name, "^supports_", ""), kit.list({})
  for _, one in next, instances.all() do
    if capabilities_of(one)[full] or may_call(one, name) then found[#found + 1] = one.name end
  end
  return found
end)

-- tools ----------------------------------------------------------------------------------------

local WRAPPING = {
  tool_name = options.text, category = options.text, description = options.text,
  security_level = options.one_of{safe = "SAFE", restricted = "RESTRICTED", privileged = "PRIVILEGED"},
}

--| `Agent.wrap_as_tool(agent, {tool_name, description, category})`
--- Makes a tool of an agent: `Tool.execute(name, {input = …})` asks it, and other agents of the run may
--- be allowed to call it. Its name, `NAME_tool` unless said.
-- Agent.wrap_as_tool(agent, {tool_name, description, category, security_level}?) → the tool's name.
Agent.wrap_as_tool = either_way(function(agent, given)
  local one, how = instances.find(agent, "agent"), options.read(given, WRAPPING)
  local name = how.tool_name or one.name .. "_tool"
  local added = kit.tools.add{
    name = name, category = how.category or "agent", level = how.security_level, agent = one,
    description = how.description or one.spec.description or "Asks the agent " .. one.name .. ".",
    parameters_schema = '{"type":"object","properties":{"input":{"type":"string",'
      .. '"description":"What it is asked."}},"required":["input"]}',
    perform = run.guarded(function(arguments)
      local text = options.first(arguments, "input", "text", "prompt")
      return run.execute(one, {text = text, parameters = arguments.parameters}).text
    end),
  }
  if not added then kit.invalid("tool_name", "is the name of a tool already") end
  return name
end)

-- composites -----------------------------------------------------------------------------------

local STRATEGIES = {
  sequential = "SEQUENTIAL", parallel = "PARALLEL", vote = "VOTE", routed = "ROUTED", route = "ROUTED",
  custom = "ROUTED",
}

local function strategy_of(cfg)
  local routing = options.first(cfg, "routing", "strategy", "execution_mode")
  if type(routing) == "table" then
    cfg.threshold = cfg.threshold or routing.threshold
    if type(routing.custom) == "function" then cfg.router = routing.custom end
    routing = options.first(routing, "type", "strategy", 1) or routing.custom and "custom"
      or routing.threshold and "vote"
  end
  return options.one_of(STRATEGIES)(routing or "sequential", "routing")
end

local COMPOSITE = {
  routing = options.anything, strategy = options.anything, execution_mode = options.text,
  threshold = options.share, fallback_agent = options.anything, fallback = options.anything,
  timeout_ms = options.count(1), router_model = options.text, router = options.anything,
  description = options.text, max_cost_usd = options.number, model = options.text,
}

local function members_of(agents)
  options.table(agents, "agents")
  local members = {}
  for i = 1, #agents do members[i] = instances.find(agents[i], "agents[" .. i .. "]") end
  if #members == 0 then kit.required("agents") end
  return members
end

local function router_of(router)
  if type(router) ~= "function" then kit.invalid("router", "must be a function") end
  return function(arguments) return router(arguments.text, arguments.agents, arguments) end
end

--| `Agent.create_composite(name, agents, {routing, threshold, fallback_agent, timeout_ms, router,
--| router_model})`
--- Several agents (instances or names) that answer as one. `routing` is `sequential` (each is given
--- what the one before it said), `parallel` (all answers), `vote` (the answer that enough of them
--- give), or `routed`: a model, or the function `router(text, names)`, chooses one.
-- Agent.create_composite(name, agents, routing or {…}?) → instance.
Agent.create_composite = either_way(function(name, agents, given)
  if type(given) == "string" then given = {routing = given} end
  local cfg = options.read(given, COMPOSITE)
  local composite = {strategy = strategy_of(cfg), members = members_of(agents), threshold = cfg.threshold}
  local fallback = options.first(cfg, "fallback_agent", "fallback")
  composite.fallback = fallback ~= nil and instances.find(fallback, "fallback_agent") or nil
  composite.router_model = cfg.router_model
  if cfg.router ~= nil then composite.router = router_of(cfg.router) end
  return instances.make({
    name = options.text(name, "name"), description = cfg.description, model = cfg.model,
    max_cost_usd = cfg.max_cost_usd, max_execution_time = cfg.timeout_ms and cfg.timeout_ms / 1000,
  }, composite)
end)

-- telling --------------------------------------------------------------------------------------

local function branch_of(one, open)
  local children = kit.list({})
  if not open[one] then
    open[one] = true
    for _, member in next, one.composite and one.composite.members or {} do
      children[#children + 1] = branch_of(member, open)
    end
    for _, used in next, one.agents do children[#children + 1] = branch_of(used.agent, open) end
    for _, name in next, one.spec.tools or {} do
      local tool = kit.tools.own(name)
      if tool and tool.agent then children[#children + 1] = branch_of(tool.agent, open) end
    end
    open[one] = nil
  end
  local kind = one.composite and "composite" or one.spec.type
  return {name = one.name, type = kind, id = one.id, children = children}
end

--| `Agent.get_hierarchy(agent)`, `Agent.get_details(agent)`
--- `{root = {name, type, id, children}}`: it, and the agents it is made of or calls; `{id, name,
--- description, state, metrics, config, composition}`.
-- Agent.get_hierarchy(agent) → {root}.
Agent.get_hierarchy = either_way(function(agent)
  return {root = branch_of(instances.find(agent, "agent"), {})}
end)

-- Agent.get_details(agent) → all that is known of it.
Agent.get_details = either_way(function(agent)
  local one = instances.find(agent, "agent")
  local tree = branch_of(one, {})
  return {
    id = one.id, name = one.name, description = one.spec.description, state = one.life:state(),
    metrics = watch.metrics(one), config = spec.shown(one.spec), custom_state = one.custom_state,
    composition = {
      is_composite = one.composite ~= nil, agents = tree.children,
      strategy = one.composite and lower(one.composite.strategy),
    },
  }
end)

-- contexts -------------------------------------------------------------------------------------

--| `Agent.create_context{conversation_id, user_id, session_id, scope, inheritance, data, security}`,
--| `Agent.create_child_context(parent, scope, inheritance)`
--- The id of facts that `agent:execute_with_context` tells an agent. A child has nothing of its
--- parent's (`isolate`), a copy (`copy`), the very same (`share`), or what it does not have itself
--- (`inherit`).
Agent.create_context = either_way(contexts.create)
Agent.create_child_context = either_way(contexts.create_child)

--| `Agent.update_context(id, key, value)`, `Agent.get_context_data(id, key)`,
--| `Agent.remove_context(id)`
--- Writes a fact; reads one, or all where no key is given; forgets a context.
Agent.update_context = either_way(contexts.update)
Agent.get_context_data = either_way(contexts.get)
Agent.remove_context = either_way(contexts.remove)

--| `Agent.set_shared_memory(scope, key, value)`, `Agent.get_shared_memory(scope, key)`
--- What agents share, kept in `State` of that scope as `shared:KEY`. The scope is `"global"`, or
--- `{type = "session", id = …}`, likewise `workflow`, `agent`, `user`.
Agent.set_shared_memory = either_way(contexts.set_shared)
Agent.get_shared_memory = either_way(contexts.get_shared)
