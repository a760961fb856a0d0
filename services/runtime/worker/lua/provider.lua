-- `Provider` and `LocalLLM`: what there is of providers of models and of their models. Keys and
-- connections are the host's; nothing of them comes here.

local kit = ...

local call, options = kit.call, kit.options
local next, pcall, type = next, pcall, type
local error, sort = error, table.sort
local find, match, sub = string.find, string.match, string.sub

local SERVICE = "llmspell.v1.ProviderService/"
local PAGE_SIZE = 1000
local DEFAULT_BACKEND = "ollama"

local Provider, LocalLLM = {}, {}
kit.env.Provider, kit.env.LocalLLM = Provider, LocalLLM

local function text_of(value, name)
  if value == nil then kit.required(name) end
  return options.text(value, name)
end

-- The answer, or nil where the reason is this one.
local function unless(reason, method, request)
  local ok, answer = pcall(call, SERVICE .. method, request)
  if ok then return answer end
  if kit.is_failure(answer) and answer.reason == reason then return nil end
  error(answer, 0)
end

-- Provider -------------------------------------------------------------------------------------

local function capabilities_of(provider)
  local can = provider.capabilities or {}
  return {
    supports_streaming = can.streaming == true, supports_multimodal = can.multimodal == true,
    supports_tools = can.tools == true, supports_json_schema = can.json_schema == true,
    max_context_tokens = can.max_context_tokens or 0,
    available_models = kit.list(can.available_models or {}), ["local"] = can["local"] == true,
  }
end

local function shaped(provider)
  local reason = provider.disabled_reason
  return {
    name = provider.name, kind = provider.kind, enabled = provider.enabled == true,
    disabled_reason = reason ~= "" and reason or nil, base_url = provider.base_url,
    capabilities = capabilities_of(provider),
  }
end

local function get(name)
  local answer = unless("PROVIDER_NOT_FOUND", "GetProvider", {name = text_of(name, "name")})
  return answer and answer.provider
end

--| `Provider.list()`
--- `{name, kind, enabled, disabled_reason, base_url, capabilities}` of each, in order of name;
--- `capabilities` has `supports_streaming`, `supports_multimodal`, `supports_tools`,
--- `supports_json_schema`, `max_context_tokens`, `available_models` and `local`.
-- Provider.list() → [{name, kind, enabled, disabled_reason, base_url, capabilities}]
Provider.list = kit.either_way(Provider, function()
  local found = {}
  for i, provider in next, call(SERVICE .. "ListProviders", {}).providers or {} do
    found[i] = shaped(provider)
  end
  return kit.list(found)
end)

--| `Provider.get(name)`
--- The same of one; nil where there is none.
-- Provider.get(name) → as Provider.list has them, or nil.
Provider.get = kit.either_way(Provider, function(name)
  local provider = get(name)
  return provider and shaped(provider)
end)

--| `Provider.getCapabilities(name)`
--- Its `capabilities` alone; nil where there is none.
-- Provider.getCapabilities(name) → table or nil
Provider.getCapabilities = kit.either_way(Provider, function(name)
  local provider = get(name)
  return provider and capabilities_of(provider)
end)

--| `Provider.isAvailable(name)`
--- Whether there is one that can be used: it has a key or needs none. It is not asked.
-- Provider.isAvailable(name) → boolean
Provider.isAvailable = kit.either_way(Provider, function(name)
  local provider = get(name)
  return provider ~= nil and provider.enabled == true
end)

--| `Provider.test(name, model)`
--- Asks it for its models, and `model` for a word where one is named: `{ok, reason, message,
--- elapsed_ms, model_count, text, version}`. That it fails is an answer, not an error.
-- Provider.test(name, model?) → {ok, reason, message, elapsed_ms, model_count, text, version}
Provider.test = kit.either_way(Provider, function(name, model)
  local request = {name = text_of(name, "name"), model = model and options.text(model, "model")}
  local told = call(SERVICE .. "TestProvider", request)
  return {
    ok = told.ok == true, reason = told.reason ~= "" and told.reason or nil,
    message = told.message ~= "" and told.message or nil, elapsed_ms = (told.elapsed or 0) * 1000,
    model_count = told.model_count or 0, text = told.text ~= "" and told.text or nil,
    version = told.version ~= "" and told.version or nil,
  }
end)

-- All pages of models, and the providers that did not tell.
local function models_of(provider, asks)
  local found, silent, token = {}, {}, nil
  repeat
    local answer = call(SERVICE .. "ListModels", {
      provider = provider, ask_providers = asks, page_size = PAGE_SIZE, page_token = token,
    })
    for _, model in next, answer.models or {} do found[#found + 1] = model end
    for name, reason in next, answer.silent_providers or {} do silent[name] = reason end
    token = answer.next_page_token
  until token == nil or token == ""
  return found, silent
end

local function priced(model)
  return {
    name = model.name, provider = model.provider, context_tokens = model.context_tokens or 0,
    output_tokens = model.output_tokens or 0, input_usd_per_million = model.input_usd_per_million,
    output_usd_per_million = model.output_usd_per_million, multimodal = model.multimodal == true,
    tools = model.tools == true, available = model.available == true,
  }
end

--| `Provider.models(name)`
--- Models of one provider, which is asked, or what is known of all: `{name, provider,
--- context_tokens, output_tokens, input_usd_per_million, output_usd_per_million, multimodal, tools,
--- available}` of each; `name` is `provider/model`.
-- Provider.models(name?) → [{name, provider, context_tokens, …}]
Provider.models = kit.either_way(Provider, function(name)
  local found, models = {}, models_of(name and options.text(name, "name"), name ~= nil)
  for i, model in next, models do found[i] = priced(model) end
  return kit.list(found)
end)

-- LocalLLM -------------------------------------------------------------------------------------

-- Names of the backends: providers on the operator's own machines that can be used.
local function backends()
  local found = {}
  for _, provider in next, call(SERVICE .. "ListProviders", {}).providers or {} do
    local can = provider.capabilities or {}
    if can["local"] and provider.enabled and provider.kind ~= "scripted" then
      found[#found + 1] = provider.name
    end
  end
  sort(found)
  return found
end

local function status_of(backend)
  local told = call(SERVICE .. "TestProvider", {name = backend})
  local message = told.message ~= "" and told.message or nil
  return {
    running = told.ok == true, ready = told.ok == true, models = told.model_count or 0,
    version = told.version ~= "" and told.version or nil, error = message,
  }
end

--| `LocalLLM.status()`
--- Of each backend, by name: `{running, ready, models, version, error}`. Backends are the
--- providers on the operator's own machines, such as `ollama`. `candle` is there and never ready.
-- LocalLLM.status() → {ollama = {running, ready, models, version, error}, …}
LocalLLM.status = kit.either_way(LocalLLM, function()
  local found = {
    candle = {running = false, ready = false, models = 0, error = "There is no such backend."},
  }
  for _, backend in next, backends() do found[backend] = status_of(backend) end
  return found
end)

local function bare(name, backend)
  local prefix = backend .. "/"
  return sub(name, 1, #prefix) == prefix and sub(name, #prefix + 1) or name
end

local function told(model)
  return {
    id = bare(model.name, model.provider), name = model.name, backend = model.provider,
    size_bytes = model.size_bytes or 0, quantization = model.quantization,
    modified_at = model.modified_time, format = model.format, loaded = model.loaded == true,
    parameter_count = model.parameter_count, context_tokens = model.context_tokens or 0,
  }
end

--| `LocalLLM.list(backend)`
--- `{id, name, backend, size_bytes, quantization, modified_at, …}` of each model that a backend, or
--- all of them, have now; `name` is what an agent's `model` takes, `modified_at` Unix seconds.
--- Raises where the backend named does not answer.
-- LocalLLM.list(backend?) → [{id, name, backend, size_bytes, quantization, modified_at}]
LocalLLM.list = kit.either_way(LocalLLM, function(backend)
  local found = {}
  for _, name in next, backend and {options.text(backend, "backend")} or backends() do
    local models, silent = models_of(name, true)
    if backend and silent[name] then
      error(kit.failure({
        code = "UNAVAILABLE", reason = silent[name], metadata = {provider = name},
        message = "The backend " .. name .. " does not tell of its models.",
      }), 0)
    end
    for _, model in next, not silent[name] and models or {} do
      if model.available then found[#found + 1] = told(model) end
    end
  end
  return kit.list(found)
end)

-- `model:variant@backend` → model:variant, backend
local function split(id)
  local model, backend = match(id, "^(.-)@([^@]+)$")
  return model or id, backend
end

--| `LocalLLM.pull(id, wait)`
--- Lets a backend fetch a model, written `model:variant@backend` (`ollama` where none is named), and
--- waits for `wait` seconds at most (a minute): `{model_id, percent_complete, bytes_downloaded,
--- bytes_total, status, error}`. What is not there by then is fetched on; pull again to see how far
--- it is. Wants `provider.admin`, which the operator has.
-- LocalLLM.pull(id, wait?) → {model_id, percent_complete, bytes_downloaded, bytes_total, status}
LocalLLM.pull = kit.either_way(LocalLLM, function(id, wait)
  local model, backend = split(text_of(id, "id"))
  local done = call(SERVICE .. "PullModel", {
    provider = backend or DEFAULT_BACKEND, model = model,
    wait = wait ~= nil and options.seconds(wait, "wait") or nil,
  })
  local got, all = done.downloaded_bytes or 0, done.total_bytes or 0
  local percent = done.status == "success" and 100.0 or all > 0 and got / all * 100 or 0.0
  return {
    model_id = model, percent_complete = percent, bytes_downloaded = got, bytes_total = all,
    status = done.status, error = done.error ~= "" and done.error or nil,
  }
end)

--| `LocalLLM.info(id)`
--- `{id, backend, size_bytes, format, loaded, parameter_count, quantization, context_tokens}` of a
--- model of the first backend that has it, or of the one behind `@`. Raises MODEL_NOT_FOUND.
-- LocalLLM.info(id) → {id, backend, size_bytes, format, loaded, parameter_count, quantization}
LocalLLM.info = kit.either_way(LocalLLM, function(id)
  local model, named = split(text_of(id, "id"))
  for _, backend in next, named and {named} or backends() do
    local answer = unless("MODEL_NOT_FOUND", "GetModel", {name = backend .. "/" .. model})
    if answer and answer.model.available then return told(answer.model) end
  end
  error(kit.failure({
    code = "NOT_FOUND", reason = "MODEL_NOT_FOUND", metadata = {model = model},
    message = "No local backend has a model " .. model .. ".",
  }), 0)
end)
