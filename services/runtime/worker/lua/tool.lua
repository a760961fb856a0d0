-- `Tool`: named functions with a schema, executed by the host. What is asked here is the call that
-- gRPC clients make, so names of old, old parameter names and defaults are the host's business; this
-- part shapes answers, and a result has every field under which scripts of old look for it.

local kit = ...

local call, json, options, required = kit.call, kit.json, kit.options, kit.required
local error, next, pcall, rawget = error, next, pcall, rawget
local select, setmetatable, type = select, setmetatable, type
local concat, sort = table.concat, table.sort
local find, gsub, lower = string.find, string.gsub, string.lower

local LIST, GET = "llmspell.v1.ToolService/ListTools", "llmspell.v1.ToolService/GetTool"
local EXECUTE = "llmspell.v1.ToolService/ExecuteTool"
local PAGE_SIZE = 1000

local Tool = {}
kit.env.Tool = Tool

local function name_of(name)
  if name == nil then required("name") end
  return options.text(name, "name")
end

-- results --------------------------------------------------------------------------------------

-- What a result holds itself; everything else is looked up in `result`.
local OWN = {
  success = true, operation = true, message = true, result = true, error = true, metadata = true,
}

-- Tools whose answer was bare JSON: `data` is it, `text` is it as text.
local BARE = {["csv-analyzer"] = true, ["json-processor"] = true}

-- The error of an answer that is none: a table that reads as its message.
local Unsuccessful = {__name = "error", __metatable = false}
function Unsuccessful.__tostring(failure) return failure.message end
function Unsuccessful.__concat(left, right)
  return kit.tostring(left) .. kit.tostring(right)
end

local function text_of(value)
  local ok, text = json.encode(value, "result")
  return ok and text or nil
end

local function within(result, name)
  if type(result) == "table" then return rawget(result, name) end
end

-- The first that is text of what these names stand for.
local function first_text(result, ...)
  for _, name in next, {...} do
    local found = within(result, name)
    if type(found) == "string" then return found end
  end
end

-- Fields that are made of others when somebody asks, so that nothing is kept twice.
local DERIVED = {}

function DERIVED._raw_text(r)
  return text_of({
    success = rawget(r, "success"), operation = rawget(r, "operation"),
    message = rawget(r, "message"), result = rawget(r, "result"), error = rawget(r, "error"),
    metadata = rawget(r, "metadata"),
  })
end

function DERIVED.text(r)
  local result = rawget(r, "result")
  if type(result) == "string" then return result end
  if rawget(r, "metadata").response then return text_of(result) end
  return first_text(result, "text", "content", "output") or rawget(r, "message") or text_of(result)
end

function DERIVED.data(r) return rawget(r, "result") end

function DERIVED.content(r)
  return first_text(rawget(r, "result"), "text", "body", "output", "rendered") or r.text
end

function DERIVED.status(r)
  local code = within(rawget(r, "result"), "status_code")
  if code ~= nil then return code end
  return rawget(r, "success") and "success" or "error"
end

function DERIVED.output(r)
  local result = rawget(r, "result")
  if type(result) == "string" then return result end
  return first_text(result, "stdout", "result", "rendered", "hash", "text")
end

local function output_of(operation)
  return function(r)
    if rawget(r, "operation") == operation then return within(rawget(r, "result"), "output") end
  end
end
DERIVED.encoded, DERIVED.decoded = output_of("encode"), output_of("decode")

local Answer = {__metatable = false}
function Answer.__index(answer, name)
  if OWN[name] then return nil end
  local found = within(rawget(answer, "result"), name)
  if found ~= nil then return found end
  local derive = DERIVED[name]
  if derive then return derive(answer) end
end

-- What a file holds is `text`, and where that is JSON what it says is `data`; a bare answer is `data`.
local function add_text(answer, plain_name)
  local result = answer.result
  if plain_name == "file-operations" then
    answer.text = answer.operation == "read" and first_text(result, "input", "content", "text")
      or answer.message
  elseif BARE[plain_name] then
    answer.data = result
    if type(result) == "string" then answer.text = result end
  else
    return
  end
  answer.metadata.response = {
    success = answer.success, operation = answer.operation, message = answer.message,
    result = result,
  }
  if answer.text and find(answer.text, "^%s*[%[{]") then
    local ok, data = json.decode(answer.text)
    if ok then answer.data = data end
  end
end

local function full(text)
  if text ~= "" then return text end
end

local function answer_of(name, told)
  local answer = {
    success = told.success, operation = full(told.operation), message = full(told.message),
    result = told.result, metadata = told.metadata and told.metadata or {},
  }
  answer.metadata.execution_time_ms = (told.elapsed or 0) * 1000
  if answer.metadata.operation == nil then answer.metadata.operation = answer.operation end
  local failure = told.failure
  if failure then
    local details = failure.details
    if type(details) == "table" and next(details) == nil then details = nil end
    answer.error = setmetatable(
      {message = failure.message, code = full(failure.code), details = details}, Unsuccessful
    )
    answer.message = answer.message or failure.message
  end
  add_text(answer, (gsub(name, "_", "-")))
  return setmetatable(answer, Answer)
end

-- executing ------------------------------------------------------------------------------------

local HOW = {timeout = options.seconds, timeout_ms = options.count(1)}

-- Tools of this run alone, which the script has made: {name, description, category,
-- parameters_schema, perform} by name, and their names in order. They pass the same hooks;
-- `perform` is given the method and its arguments, and answers as the host would.
local own, own_names = {}, {}

local function own_tool(name)
  return own[name] or own[gsub(name, "-", "_")] or own[gsub(name, "_", "-")]
end

-- The host's, or the script's own that answers in its place.
local function call_of(name)
  local tool = own_tool(name)
  if not tool then return call end
  return function(method, args)
    return call(method, args, nil, function(_, given)
      local before = kit.elapsed()
      local answer = tool.perform(nil, given)
      answer.elapsed = kit.elapsed() - before
      return answer
    end)
  end
end

local function execute(name, params, how)
  name = name_of(name)
  if params ~= nil then options.table(params, "params") end
  how = options.read(how, HOW)
  local ok, told = pcall(call_of(name), EXECUTE, {
    name = name, arguments = params or {}, session_id = kit.session_id,
    timeout = how.timeout or how.timeout_ms and how.timeout_ms / 1000,
  })
  if ok then return answer_of(name, told) end
  if kit.is_failure(told) and rawget(told, "reason") ~= "TOOL_NOT_FOUND" then
    told.message = "Tool execution failed: " .. kit.tostring(rawget(told, "message"))
  end
  error(told, 0)
end

--| `Tool.execute(name, params, {timeout})`
--- Executes a tool, within `timeout` seconds where they are given; also `Tool.invoke`.
-- Tool.execute(name, params?, {timeout = seconds}?) → {success, operation, message, result, error,
-- metadata}, and every field of `result` beside them. Raises where the call is refused or breaks.
Tool.execute = kit.either_way(Tool, execute)

-- Tool.invoke is Tool.execute.
Tool.invoke = Tool.execute

-- telling --------------------------------------------------------------------------------------

local function schema_of(text)
  local ok, schema = json.decode(text)
  return ok and schema or {}
end

local function kind_of(rule)
  if type(rule.type) == "table" then return concat(rule.type, "|") end
  if rule.type then return rule.type end
  return rule.enum and "string" or "any"
end

-- What must be given comes first, then the others in order of name.
local function parameters_of(schema)
  local names, properties, needed = {}, schema.properties or {}, {}
  for _, name in next, schema.required or {} do needed[name] = true end
  for name in next, properties do names[#names + 1] = name end
  sort(names, function(a, b)
    if needed[a] ~= needed[b] then return needed[a] == true end
    return a < b
  end)
  for i, name in next, names do
    local rule = properties[name]
    names[i] = {
      name = name, type = kind_of(rule), description = rule.description,
      required = needed[name] == true, default = rule.default, enum = rule.enum,
    }
  end
  return kit.list(names)
end

-- Every tool that was handed out, so that both ways to call one are told apart.
local handed_out = setmetatable({}, {__mode = "k"})

local function either_way(fn)
  return function(...)
    local first = ...
    if first ~= nil and handed_out[first] then return fn(select(2, ...)) end
    return fn(...)
  end
end

local function summary_of(tool)
  return {
    name = tool.name, description = tool.description, version = tool.version,
    category = tool.category, level = lower(tool.level), security_level = lower(tool.level),
    available = tool.unavailable == "", unavailable = full(tool.unavailable),
  }
end

local function instance_of(tool)
  local instance, parameters = summary_of(tool), schema_of(tool.parameters_schema)
  local schema = {
    name = tool.name, description = tool.description, parameters = parameters_of(parameters),
    json = parameters, result = schema_of(tool.result_schema),
  }
  instance.schema, instance.notes = schema, full(tool.notes)
  instance.old_names = tool.old_names or kit.list({})
  instance.execute = either_way(function(params, how) return execute(tool.name, params, how) end)
  instance.invoke = instance.execute
  instance.getSchema = either_way(function() return schema end)
  handed_out[instance] = true
  return instance
end

local function get(name)
  local mine = own_tool(name_of(name))
  if mine then return instance_of(mine) end
  local ok, told = pcall(call, GET, {name = name})
  if ok then return instance_of(told.tool) end
  if kit.is_failure(told) and rawget(told, "reason") == "TOOL_NOT_FOUND" then return nil end
  error(told, 0)
end

--| `Tool.get(name)`
--- `{name, description, version, category, level, available, notes, old_names, schema, execute,
--- getSchema}`, or nil; also `Tool.NAME` and `Tool["a-name"]`. `execute(params)` may be called
--- with a dot or a colon.
-- Tool.get(name) → {name, description, version, category, level, schema, execute, getSchema} or nil.
Tool.get = kit.either_way(Tool, get)

--| `Tool.exists(name)`, `Tool.categories()`
--- Whether there is one; the names of all categories.
-- Tool.exists(name) → whether there is one.
Tool.exists = kit.either_way(Tool, function(name) return get(name) ~= nil end)

local function all(category, query)
  local tools, token = {}, nil
  repeat
    local answer = call(LIST, {
      category = category, query = query, page_size = PAGE_SIZE, page_token = token,
    })
    for _, tool in next, answer.tools or {} do tools[#tools + 1] = tool end
    token = full(answer.next_page_token)
  until token == nil
  for _, name in next, own_names do
    local tool = own[name]
    local fits = not category or tool.category == category
    if fits and query then fits = find(lower(name .. " " .. tool.description), lower(query), 1, true) end
    if fits then tools[#tools + 1] = tool end
  end
  if #own_names > 0 then sort(tools, function(a, b) return a.name < b.name end) end
  return tools
end

local function summaries(tools)
  for i = 1, #tools do tools[i] = summary_of(tools[i]) end
  return kit.list(tools)
end

--| `Tool.list()`
--- `{name, description, version, category, level, available}` of each, in order of name.
-- Tool.list() → {name, description, version, category, level} of each, in order of name.
Tool.list = kit.either_way(Tool, function() return summaries(all()) end)

-- Tool.categories() → their names, in order.
Tool.categories = kit.either_way(Tool, function()
  local names, seen = {}, {}
  for _, tool in next, all() do
    if not seen[tool.category] then
      seen[tool.category] = true
      names[#names + 1] = tool.category
    end
  end
  sort(names)
  return kit.list(names)
end)

local SOUGHT = {category = options.text, tag = options.text, query = options.text}

--| `Tool.discover{category, tag, query}`
--- The same of those of a category, with `tag` in their description, with `query` in name or
--- description.
-- Tool.discover{category, tag, query} → as Tool.list, those alone of a category, with `tag` in their
-- description, with `query` in name or description.
Tool.discover = kit.either_way(Tool, function(sought)
  sought = options.read(sought, SOUGHT)
  local tools, fitting = all(sought.category, sought.query), {}
  for _, tool in next, tools do
    local fits = sought.tag == nil or find(lower(tool.description), lower(sought.tag), 1, true)
    if fits then fitting[#fitting + 1] = tool end
  end
  return summaries(fitting)
end)

--| `Tool.search(text)`
--- The same of those with the text in name or description.
-- Tool.search(text) → as Tool.list, those with the text in name or description.
Tool.search = kit.either_way(Tool, function(query)
  if query == nil then required("query") end
  return summaries(all(nil, options.text(query, "query")))
end)

-- For the parts that follow.
kit.tools = {execute = execute, get = get, all = all}

-- Adds a tool of this run; false where there is one of the name, here or in the host.
function kit.tools.add(tool)
  if get(tool.name) then return false end
  tool.version, tool.level, tool.unavailable = "1.0.0", tool.level or "SAFE", ""
  tool.result_schema = "{}"
  own[tool.name] = tool
  own_names[#own_names + 1] = tool.name
  return true
end

-- The script's own tool of a name, or nil.
function kit.tools.own(name) return own[name] end

function kit.tools.own_all()
  local found = {}
  for i, name in next, own_names do found[i] = own[name] end
  return found
end

-- Drops those for which `is_gone` holds.
function kit.tools.drop(is_gone)
  local rest = {}
  for _, name in next, own_names do
    if is_gone(own[name]) then own[name] = nil else rest[#rest + 1] = name end
  end
  own_names = rest
end

-- Tool.NAME and Tool["the-name"] are Tool.get of it.
setmetatable(Tool, {
  __metatable = false,
  __index = function(_, name)
    if type(name) == "string" then return get(name) end
  end,
})
