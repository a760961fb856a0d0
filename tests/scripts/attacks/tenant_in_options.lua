-- expects: held
local ok, failure = pcall(RAG.search, "secret", {tenant_id = "victim"})
assert(not ok and failure.reason == "PERMISSION_DENIED", tostring(failure))
local ok, failure = pcall(RAG.ingest, {text = "x"}, {tenant_id = "victim"})
assert(not ok and failure.reason == "PERMISSION_DENIED", tostring(failure))
local ok, failure = pcall(Artifact.list, "tenant:victim")
assert(not ok and failure.reason == "PERMISSION_DENIED", tostring(failure))
return "held"
