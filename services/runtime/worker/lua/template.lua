-- `Template`: agents and workflows that are ready to use, executed by the host as runs of their own.

local kit = ...

local call, json, options = kit.call, kit.json, kit.options
local error, next, pcall, rawget, type = error, next, pcall, rawget, type

local LIST = "llmspell.v1.TemplateService/ListTemplates"
local GET = "llmspell.v1.TemplateService/GetTemplate"
local EXECUTE = "llmspell.v1.TemplateService/ExecuteTemplate"
local ESTIMATE = "llmspell.v1.TemplateService/EstimateTemplate"

local Template = {}
kit.env.Template = Template

local function id_of(name)
  if name == nil then kit.required("name") end
  return options.text(name, "name")
end

local function parameters_of(params)
  if params == nil then return {} end
  return options.table(params, "params")
end

local function metadata_of(template)
  return {
    id = template.id, name = template.name, description = template.description,
    category = template.category, version = template.version, author = template.author,
    requires = template.requires or kit.list({}), tags = template.tags or kit.list({}),
  }
end

local function listed(category, query)
  if category ~= nil then options.text(category, "category") end
  if query ~= nil then options.text(query, "query") end
  local found = {}
  for i, template in next, call(LIST, {category = category, query = query}).templates or {} do
    found[i] = metadata_of(template)
  end
  return kit.list(found)
end

--| `Template.list(category)`
--- `{id, name, description, category, version, author, requires, tags}` of each, in order of id.
-- Template.list(category?) → [{id, name, description, category, version, author, requires, tags}]
Template.list = kit.either_way(Template, function(category) return listed(category) end)

--| `Template.search(query, category)`
--- The same of those with the text in id, name, description or tags.
-- Template.search(query, category?) → as Template.list.
Template.search = kit.either_way(Template, function(query, category)
  return listed(category, query)
end)

local function schema_of(template)
  local parameters = {}
  for i, each in next, template.parameters or {} do
    local pattern = each.pattern
    if pattern == "" then pattern = nil end
    parameters[i] = {
      name = each.name, description = each.description, param_type = each.param_type,
      required = each.required == true, default = each.default, min = each.min, max = each.max,
      min_length = each.min_length, max_length = each.max_length, pattern = pattern,
      allowed_values = each.allowed_values and #each.allowed_values > 0 and each.allowed_values
        or nil,
    }
  end
  local ok, result = json.decode(template.result_schema)
  return {
    version = template.version, parameters = kit.list(parameters), result = ok and result or nil,
  }
end

local function get(name)
  return call(GET, {id = id_of(name)}).template
end

--| `Template.info(name, show_schema)`
--- `{metadata, schema, source}`: `schema` only where it is asked for, `source` is the script that
--- it is.
-- Template.info(name, show_schema?) → {metadata, schema?, source}
Template.info = kit.either_way(Template, function(name, show_schema)
  local template = get(name)
  return {
    metadata = metadata_of(template), schema = show_schema and schema_of(template) or nil,
    source = template.source,
  }
end)

--| `Template.schema(name)`
--- `{version, parameters, result}`; each parameter has `name`, `description`, `param_type`,
--- `required`, `default`, `min`, `max`, `min_length`, `max_length`, `pattern`, `allowed_values`.
-- Template.schema(name) → {version, parameters, result}
Template.schema = kit.either_way(Template, function(name) return schema_of(get(name)) end)

local function artifacts_of(told)
  local artifacts = {}
  for i, each in next, told.artifacts or {} do
    artifacts[i] = {
      filename = each.filename, content = each.content, mime_type = each.mime_type,
      metadata = each.metadata or {},
    }
  end
  return kit.list(artifacts)
end

local HOW = {timeout = options.seconds, timeout_ms = options.count(1)}

--| `Template.execute(name, params, {timeout})`
--- `{result_type, result, artifacts, metadata, metrics}`. `metrics` has `duration_ms`,
--- `tokens_used`, `cost_usd`, `agents_invoked`. Parameters that do not fit raise before anything
--- happens.
-- Template.execute(name, params?, {timeout}?) → {result_type, result, artifacts, metadata, metrics}
Template.execute = kit.either_way(Template, function(name, params, how)
  name, params, how = id_of(name), parameters_of(params), options.read(how, HOW)
  local ok, told = pcall(call, EXECUTE, {
    id = name, parameters = params, session_id = params.session_id == nil and kit.session_id or nil,
    timeout = how.timeout or how.timeout_ms and how.timeout_ms / 1000,
  })
  if not ok then
    if kit.is_failure(told) and rawget(told, "reason") == "SCRIPT_FAILED" then
      told.message = "Template execution failed: " .. kit.tostring(rawget(told, "message"))
    end
    error(told, 0)
  end
  local spent = told.spent or {}
  return {
    result_type = told.result_type, result = told.result, artifacts = artifacts_of(told),
    metadata = {
      template_id = name, template_version = told.template_version, executed_at = kit.integer(kit.now() // 1),
      parameters = params,
    },
    metrics = {
      duration_ms = (told.elapsed or 0) * 1000,
      tokens_used = (spent.input_tokens or 0) + (spent.output_tokens or 0),
      cost_usd = spent.cost_usd or 0.0, agents_invoked = told.agents_invoked or 0,
    },
  }
end)

--| `Template.estimate_cost(name, params)`
--- `{estimated_tokens, estimated_cost_usd, estimated_duration_ms, confidence}`.
-- Template.estimate_cost(name, params?) → {estimated_tokens, estimated_cost_usd,
-- estimated_duration_ms, confidence}
Template.estimate_cost = kit.either_way(Template, function(name, params)
  local told = call(ESTIMATE, {id = id_of(name), parameters = parameters_of(params)})
  return {
    estimated_tokens = told.estimated_tokens or 0,
    estimated_cost_usd = told.estimated_cost_usd or 0.0,
    estimated_duration_ms = (told.estimated_duration or 0) * 1000,
    confidence = told.confidence or 0.0,
  }
end)
