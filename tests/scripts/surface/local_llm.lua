-- LocalLLM where no backend runs: each function says so. What it does with one that runs is tested
-- in tests/integration/test_providers.py.

local status = LocalLLM.status()
-- Whoever works on this may have one that runs.
local runs = status.ollama.running
assert(runs or status.ollama.models == 0 and status.ollama.error:find("ollama", 1, true))
assert(status.candle.ready == false and status.candle.error)
assert(status.scripted == nil and LocalLLM:status().ollama)

assert(#LocalLLM.list() == status.ollama.models)
local ok, failure = pcall(LocalLLM.list, "ollama")
assert(ok == runs)
assert(ok or failure.reason == "PROVIDER_UNAVAILABLE")
ok, failure = pcall(LocalLLM.list, "nobody")
assert(not ok and failure.reason == "PROVIDER_NOT_FOUND")

ok, failure = pcall(LocalLLM.info, "no-such-model@ollama")
assert(not ok and failure.reason == "MODEL_NOT_FOUND")
ok, failure = pcall(LocalLLM.info, "no-such-model")
assert(not ok and failure.reason == "MODEL_NOT_FOUND" and failure.metadata.model == "no-such-model")

-- Fetching is for whoever runs the deployment.
ok, failure = pcall(LocalLLM.pull, "no-such-model", 1)
assert(not ok and failure.reason == "PERMISSION_DENIED")

return "done"
