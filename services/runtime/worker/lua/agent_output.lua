-- What an agent is asked and what it said, between scripts' tables and the contract's.

local kit = ...

local json, options = kit.json, kit.options
local next, type = next, type
local byte, char, find, gsub, lower, match, rep, sub = string.byte, string.char, string.find,
  string.gsub, string.lower, string.match, string.rep, string.sub
local concat = table.concat

local output = {}
kit.agent_output = output

-- base64 ---------------------------------------------------------------------------------------

local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local VALUES = {}
for i = 1, #LETTERS do VALUES[byte(LETTERS, i)] = i - 1 end

function output.to_base64(bytes)
  local out = {}
  for i = 1, #bytes, 3 do
    local a, b, c = byte(bytes, i, i + 2)
    local number, count = a * 65536 + (b or 0) * 256 + (c or 0), b and (c and 4 or 3) or 2
    local word = ""
    for shift = 18, 24 - 6 * count, -6 do
      local at = (number >> shift) & 63
      word = word .. sub(LETTERS, at + 1, at + 1)
    end
    out[#out + 1] = word .. rep("=", 4 - count)
  end
  return concat(out)
end

function output.from_base64(text, field)
  text = gsub(gsub(options.text(text, field), "^data:[^,]*,", ""), "[%s=]", "")
  local out = {}
  for i = 1, #text, 4 do
    local number, count = 0, 0
    for j = i, i + 3 do
      local value = VALUES[byte(text, j)]
      if j <= #text and not value then kit.invalid(field, "must be base64") end
      number, count = number * 64 + (value or 0), count + (value and 1 or 0)
    end
    if count < 2 then kit.invalid(field, "must be base64") end
    out[#out + 1] = sub(char(number >> 16, (number >> 8) & 255, number & 255), 1, count - 1)
  end
  return concat(out)
end

-- input ----------------------------------------------------------------------------------------

local FORMATS = {
  png = "image/png", jpeg = "image/jpeg", jpg = "image/jpeg", webp = "image/webp",
  gif = "image/gif", svg = "image/svg+xml", tiff = "image/tiff",
}

local function medium_of(given, field)
  if type(given) == "string" then given = {base64 = given} end
  options.table(given, field)
  local kind = given.mime_type
  if kind == nil and type(given.base64) == "string" then kind = match(given.base64, "^data:([%w/+.-]+)") end
  local format = given.format or "png"
  kind = kind or type(format) == "string" and FORMATS[lower(format)]
  if not kind then kit.invalid(field .. ".format", "must be png, jpeg, webp, gif, svg or tiff") end
  local data = given.data or given.bytes
  if data == nil then
    if given.base64 == nil then kit.required(field .. ".base64") end
    data = output.from_base64(given.base64, field .. ".base64")
  end
  return {mime_type = kind, data = options.text(data, field .. ".data")}
end

local function media_of(input)
  local media = kit.list({})
  for _, name in next, {"media", "images"} do
    if input[name] ~= nil then
      options.table(input[name], name)
      for i = 1, #input[name] do
        media[#media + 1] = medium_of(input[name][i], name .. "[" .. i .. "]")
      end
    end
  end
  if input.image ~= nil then media[#media + 1] = medium_of(input.image, "image") end
  return media
end

local MODALITIES = {text = true, image = true, audio = true, video = true, binary = true}

local function check_modalities(wanted)
  if wanted == nil then return end
  options.table(wanted, "output_modalities")
  for i = 1, #wanted do
    if not MODALITIES[wanted[i]] then
      kit.invalid("output_modalities", "must be text, image, audio, video or binary")
    elseif wanted[i] ~= "text" then
      kit.not_offered("Agents answer in text; " .. wanted[i] .. " is not offered.")
    end
  end
end

-- Text, or a table of `text` (or `prompt`), `parameters`, `media`, `image`, `output_modalities`.
function output.input(given)
  if type(given) == "string" or type(given) == "number" then given = {text = kit.tostring(given)} end
  if type(given) ~= "table" then kit.invalid("input", "must be text or a table, not a " .. type(given)) end
  local text = options.first(given, "text", "prompt", "input", "message")
  if text == nil then text = "" end
  options.text(text, "text")
  check_modalities(given.output_modalities)
  local input = {text = text, media = media_of(given)}
  if given.parameters ~= nil then input.parameters = options.table(given.parameters, "parameters") end
  if not find(text, "%S") and #input.media == 0 then
    kit.refuse("FIELD_REQUIRED", "text", "Input text cannot be empty.")
  end
  return input
end

-- output ---------------------------------------------------------------------------------------

-- The error of a tool, which reads as its message.
local function failure_text(failure)
  return failure and {reason = failure.reason, message = failure.message, metadata = failure.metadata}
end

function output.tool_call(told)
  return {
    id = told.call_id, tool = told.tool, name = told.tool, arguments = told.arguments or {},
    result = told.result, error = failure_text(told.failure), success = told.failure == nil,
    elapsed_ms = told.elapsed and told.elapsed * 1000,
  }
end

local function tool_calls_of(told)
  local calls = kit.list({})
  for i, one in next, told.tool_calls or {} do calls[i] = output.tool_call(one) end
  return calls
end

function output.spent(spent)
  spent = spent or {}
  local input, made = spent.input_tokens or 0, spent.output_tokens or 0
  return {
    input_tokens = input, output_tokens = made, total_tokens = input + made,
    cached_tokens = spent.cached_tokens or 0, cost_usd = spent.cost_usd or 0.0,
    estimated = spent.estimated or false, model_calls = spent.model_calls or 0,
    tool_calls = spent.tool_calls or 0,
  }
end

local function media_shown(told)
  local media = kit.list({})
  for i, one in next, told.media or {} do
    local format = match(one.mime_type, "/([%w]+)") or ""
    media[i] = {base64 = output.to_base64(one.data or ""), type = "image", format = format,
      mime_type = one.mime_type}
  end
  return media
end

local function metadata_of(told, usage)
  local metadata = {}
  for key, value in next, told.metadata or {} do metadata[key] = value end
  metadata.model = told.model
  metadata.token_count = usage.total_tokens
  metadata.execution_time_ms = told.elapsed and told.elapsed * 1000
  return metadata
end

-- The keys of a text that is JSON of the kind that tools answer with, or `data` and `text`.
local function read_text(text)
  if not find(text, "^%s*[%[{\"%d%-tfn]") then return {text = text} end
  local ok, data = json.decode(text)
  if not ok then return {text = text} end
  local is_result = type(data) == "table" and not kit.is_list(data)
    and (data.success ~= nil or data.result ~= nil or data.operation ~= nil)
  if not is_result then return {data = data, text = text} end
  data._raw_text = text
  return data
end

-- Beside what read_text gives: every field under which somebody looks for it.
local function add(found, name, value)
  if found[name] == nil then found[name] = value end
end

function output.told(told)
  local text, usage = told.text or "", output.spent(told.spent)
  local found = read_text(text)
  add(found, "text", text)
  add(found, "content", text)
  add(found, "success", true)
  add(found, "tool_calls", tool_calls_of(told))
  add(found, "cost_usd", usage.cost_usd)
  add(found, "usage", usage)
  add(found, "citations", told.citations or kit.list({}))
  add(found, "finish_reason", told.finish_reason)
  add(found, "turns", told.turns)
  add(found, "model", told.model)
  if told.conversation_id ~= "" then add(found, "conversation_id", told.conversation_id) end
  if told.json ~= nil then add(found, "data", told.json) end
  found.metadata = metadata_of(told, usage)
  found.media = media_shown(told)
  return found
end

-- events ---------------------------------------------------------------------------------------

local function tool_event(kind, event, told)
  local call = output.tool_call(told)
  return {
    type = kind, path = event.path, tool = call.tool, call_id = call.id, arguments = call.arguments,
    result = call.result, error = call.error, elapsed_ms = call.elapsed_ms, text = "", content = "",
  }
end

-- An event as a chunk that a script is given; nil for those of steps.
function output.chunk(event)
  if event.text ~= nil then
    return {type = "text", path = event.path, text = event.text, content = event.text}
  elseif event.tool_started then
    return tool_event("tool_started", event, event.tool_started)
  elseif event.tool_ended then
    return tool_event("tool_ended", event, event.tool_ended)
  elseif event.model_answered then
    return {type = "usage", path = event.path, usage = output.spent(event.model_answered), text = "",
      content = ""}
  elseif event.retried ~= nil then
    return {type = "retried", path = event.path, reason = event.retried, text = "", content = ""}
  end
end
