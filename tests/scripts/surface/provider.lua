-- Provider: which there are, what they can, whether they answer; all without a key.

local listed, by_name = Provider.list(), {}
assert(#listed > 10 and #listed == #Provider:list())
for i, provider in ipairs(listed) do
  assert(i == 1 or listed[i - 1].name < provider.name)
  assert(type(provider.enabled) == "boolean" and provider.kind)
  assert(type(provider.capabilities.supports_streaming) == "boolean")
  assert(type(provider.capabilities.available_models) == "table")
  by_name[provider.name] = provider
end
assert(not by_name.openai.enabled and by_name.openai.disabled_reason:find("OPENAI_API_KEY"))
assert(by_name.openai.base_url == "https://api.openai.com/v1")
assert(by_name.scripted.enabled and by_name.scripted.disabled_reason == nil)
assert(by_name.ollama.capabilities["local"] and not by_name.openai.capabilities["local"])

assert(Provider.get("scripted").kind == "scripted" and Provider:get("scripted").name == "scripted")
assert(Provider.get("nobody") == nil and Provider.getCapabilities("nobody") == nil)
assert(Provider.getCapabilities("openai").supports_multimodal == true)
assert(Provider.getCapabilities("openai").max_context_tokens == 0)
assert(Config.getProvider("scripted").enabled and Config.getProvider("openai") == nil)
assert(Config.listProviders()[1] == "ollama")
assert(Provider.isAvailable("scripted") and not Provider.isAvailable("openai"))
assert(Provider.isAvailable("nobody") == false)
local ok, failure = pcall(Provider.get)
assert(not ok and failure.reason == "FIELD_REQUIRED" and failure.metadata.field == "name")

local test = Provider.test("scripted", "echo")
assert(test.ok and test.text:find("hello") and test.model_count >= 1 and test.elapsed_ms >= 0)
test = Provider.test("openai")
assert(not test.ok and test.reason == "PROVIDER_KEY_REFUSED" and test.message:find("key"))

local models = Provider.models("scripted")
assert(models[1].name == "scripted/echo" and models[1].provider == "scripted")
assert(models[1].available and models[1].tools)
assert(#Provider.models() >= #models)

return "done"
