-- RAG as scripts see it. The host is the fake of tests/unit/runtime/running.py.

local function refused(reason, part, fn, ...)
  local ok, e = pcall(fn, ...)
  assert(not ok, "not refused")
  assert(type(e) == "table" and e.reason == reason, tostring(e))
  assert(e.code == "INVALID_ARGUMENT", e.code)
  assert(tostring(e):find(part, 1, true), tostring(e))
  assert(type(e.metadata) == "table")
  return e
end

-- A result is a list and a record at once.
local found = RAG.search("q", {k = 2})
assert(found.success == true and found.total == 2 and #found == 2 and #found.results == 2)
for i, hit in ipairs(found) do
  assert(hit == found.results[i])
  assert(hit.id == "d" .. i .. "#0" and hit.document_id == "d" .. i)
  assert(hit.content == "text " .. i and hit.text == hit.content)
  assert(hit.score == 1 / i and hit.metadata.n == i and hit.chunk_index == 0)
end

-- Bad arguments are named.
refused("FIELD_REQUIRED", "query", RAG.search)
refused("FIELD_REQUIRED", "query", RAG.search, {top_k = 3})
refused("FIELD_INVALID", "query", RAG.search, 5)
refused("FIELD_INVALID", "options", RAG.search, "q", 5)
refused("FIELD_INVALID", "top_k", RAG.search, "q", {top_k = 0})
refused("FIELD_INVALID", "k must", RAG.search, "q", {k = -1})
refused("FIELD_INVALID", "limit", RAG.search, "q", {limit = 1.5})
refused("FIELD_INVALID", "limit", RAG.search, "q", {limit = "5"})
refused("FIELD_INVALID", "filters", RAG.search, "q", {filters = "lang=en"})
refused("FIELD_INVALID", "filters", RAG.search, "q", {filters = false})
refused("FIELD_INVALID", "threshold", RAG.search, "q", {threshold = "0.5"})
refused("FIELD_INVALID", "scope", RAG.search, "q", {scope = {}})
refused("FIELD_INVALID", "tenant_id", RAG.search, "q", {tenant_id = 5})
refused("FIELD_REQUIRED", "scope_id", RAG.search, "q", {scope = "tenant"})
local above = {filters = {year = {above = 1}}}
local e = refused("FILTER_INVALID", "filters.year.above", RAG.search, "q", above)
assert(e.metadata.path == "filters.year.above")
refused("FILTER_INVALID", "filters.tag.in", RAG.search, "q", {filters = {tag = {["in"] = 5}}})
refused("FILTER_INVALID", "filters.a.exists", RAG.search, "q", {filters = {a = {exists = 1}}})
refused("FILTER_INVALID", "filters.a", RAG.search, "q", {filters = {a = {}}})
refused("FILTER_INVALID", "filters", RAG.search, "q", {filters = {"a"}})
refused("FILTER_INVALID", "filters.any[2]", RAG.search, "q", {filters = {any = {{a = 1}, {}}}})
refused("FILTER_INVALID", "filters.any", RAG.search, "q", {filters = {any = 5}})

refused("FIELD_REQUIRED", "documents", RAG.ingest)
refused("FIELD_REQUIRED", "document.content", RAG.ingest, {id = "x"})
refused("FIELD_REQUIRED", "documents[2].content", RAG.ingest, {{text = "a"}, {id = "x"}})
refused("FIELD_INVALID", "document.content", RAG.ingest, {content = 5})
refused("FIELD_INVALID", "documents[1]", RAG.ingest, {5})
refused("FIELD_INVALID", "document.id", RAG.ingest, {content = "a", id = 5})
refused("FIELD_INVALID", "document.metadata", RAG.ingest, {content = "a", metadata = "m"})
refused("FIELD_INVALID", "ttl_seconds", RAG.ingest, {content = "a", metadata = {ttl_seconds = 0}})
refused("FIELD_INVALID", "timestamp", RAG.ingest, {content = "a", metadata = {timestamp = true}})
refused("FIELD_INVALID", "chunking.strategy", RAG.ingest, "a", {chunking = {strategy = "semantic"}})
refused("FIELD_INVALID", "chunking.chunk_size", RAG.ingest, "a", {chunking = {chunk_size = 0}})
refused("FIELD_INVALID", "chunking.overlap", RAG.ingest, "a", {chunking = {overlap = -1}})
refused("FIELD_REQUIRED", "scope", RAG.cleanup_scope)

assert(RAG.ingest({}).documents_processed == 0)
assert(RAG:ingest("one").documents_processed == 1)
assert(RAG.ingest{{text = "a"}, {content = "b"}}.vectors_created == 2)

local stats = RAG.get_stats("session", "x")
assert(stats.total_vectors == 30 and stats.total_storage_bytes == 500)
assert(stats.collections == 2 and stats.indexed_vectors == 4)
assert(RAG.cleanup_scope("session", "x") == 7)
local names = RAG.list_providers()
assert(#names == 2 and names[1] == "local" and names[2] == "openai")

-- What is not offered reads as nil, so that scripts can test for it.
assert(RAG.ingest_batch == nil and RAG.pipeline == nil)

return "done"
