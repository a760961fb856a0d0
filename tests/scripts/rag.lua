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

-- How the search went about it is on the table too.
assert(found.path == "matches" and found.complete == true and found.exact == true)
assert(found.candidates == 9 and found.match_count == 2 and found.revision == 3)

-- A misspelt option names the one that was meant; one that is like no other is ignored.
local function meant(name, options)
  local failure = refused("FIELD_INVALID", "did you mean " .. name .. "?", RAG.search, "q", options)
  assert(failure.metadata.nearest == name)
end
meant("threshold", {treshold = 0.5})
meant("min_recall", {min_recal = 0.5})
meant("top_k", {topk = 5})
meant("filters", {filtres = {}})
meant("event_time", {event_tiem = {1, 2}})
RAG.search("q", {include_embeddings = true, rerank_model = "x", n = 1})
refused("FIELD_INVALID", "names only", RAG.search, "q", {"x"})
refused("FIELD_INVALID", "chunking.overlap", RAG.ingest, "a", {chunking = {overlaps = 1}})
refused("FIELD_INVALID", "document.content", RAG.ingest, {contents = "a"})

refused("FIELD_INVALID", "mode must be one of dense", RAG.search, "q", {mode = "both"})
refused("FIELD_INVALID", "fusion.method", RAG.search, "q", {fusion = "sum"})
refused("FIELD_INVALID", "fusion.k", RAG.search, "q", {fusion = {method = "weighted", k = 1}})
refused("FIELD_INVALID", "weights must", RAG.search, "q", {weights = {vector = 0}})
refused("FIELD_INVALID", "weights.vektor", RAG.search, "q", {weights = {vektor = 1}})
refused("FIELD_INVALID", "weights.x is not known; there are", RAG.search, "q", {weights = {x = 1}})
refused("FIELD_INVALID", "mmr must be a number between", RAG.search, "q", {mmr = 2})
refused("FIELD_INVALID", "mmr.candidates", RAG.search, "q", {mmr = {candidates = 0}})
refused("FIELD_INVALID", "event_time must have", RAG.search, "q", {event_time = {}})
refused("FIELD_INVALID", "event_time.till", RAG.search, "q", {event_time = {from = 1, till = 2}})
refused("FIELD_INVALID", "ingest_time.to", RAG.search, "q", {ingest_time = {1, true}})
refused("FIELD_INVALID", "as_of", RAG.search, "q", {as_of = {}})
refused("FIELD_INVALID", "min_recall", RAG.search, "q", {min_recall = 1.1})
refused("FIELD_INVALID", "min_recall", RAG.search, "q", {min_recall = 0/0})
refused("FIELD_INVALID", "exact", RAG.search, "q", {exact = "yes"})
refused("FIELD_INVALID", "batch_size", RAG.ingest, "a", {batch_size = 257})
refused("FIELD_INVALID", "ttl", RAG.ingest, "a", {ttl = 0})
refused("FIELD_INVALID", "chunking.language", RAG.ingest, "a", {chunking = {language = "go"}})

local function unfit(part, filter)
  refused("FILTER_INVALID", part, RAG.search, "q", {filters = filter})
end
unfit("did you mean prefix?", {a = {prefx = "x"}})
unfit("filters.a.prefix must be text", {a = {prefix = ""}})
unfit("filters.a.since", {a = {since = true}})
unfit("filters.at_least.count", {at_least = {filters = {{a = 1}}}})
unfit("filters.nested.field", {nested = {filter = {a = 1}}})
unfit("filters.must[1].match", {must = {{key = "a", match = {}}}})
unfit("filters.must[1].match.text is not known", {must = {{key = "a", match = {text = "x"}}}})
unfit("filters.must[1].range must not mix", {must = {{key = "a", range = {gt = 1, lt = "x"}}}})
unfit("filters.musty is not known here", {must = {}, musty = {}})
unfit("filters.min_should.min_count", {min_should = {conditions = {{a = 1}}}})
local endless = {}
endless["not"] = endless
unfit("nested deeper than 32", endless)

refused("FIELD_REQUIRED", "options", RAG.configure)
refused("FIELD_INVALID", "colour is not known; there are", RAG.configure, {colour = 1})
refused("FIELD_INVALID", "did you mean collection?", RAG.configure, {colection = "c"})
refused("FIELD_INVALID", "k must", RAG.configure, {k = 0})
refused("FIELD_INVALID", "scope", RAG.configure, {scope = {}})
assert(RAG.configure{} == true)

refused("FIELD_REQUIRED", "ids", RAG.delete)
refused("FIELD_INVALID", "ids[2]", RAG.delete, {"a", 5})
refused("FIELD_INVALID", "ids must be a list", RAG.delete, {id = "a"})
refused("FIELD_REQUIRED", "session_id", RAG.create_session_collection)
refused("FIELD_INVALID", "ttl", RAG.create_session_collection, "s", 0)
refused("FIELD_REQUIRED", "session_id", RAG.configure_session, {vector_ttl = 5})
refused("FIELD_INVALID", "vector_ttl", RAG.configure_session, {session_id = "s", vector_ttl = -1})
refused("FIELD_REQUIRED", "provider", RAG.reembed)

local made = RAG.create_session_collection("s1", 60)
assert(made.session_id == "s1" and made.namespace == "session_s1")
assert(made.ttl == 60 and made.created)
local set = RAG.configure_session{session_id = "s1", vector_ttl = 5}
assert(set.session_id == "s1" and set.vector_ttl == 5 and set.configured == true)
local running = RAG.reembed("openai")
assert(running.status == "running" and running.done == 5 and running.total == 10)
assert(running.active.model == "m" and running.message == nil)
assert(RAG.reembedding().status == "none" and RAG.end_reembedding() == 4)
assert(RAG.save() == true and RAG.save{collection = "absent"} == true)
local ok, denied = pcall(RAG.save, {collection = "shut"})
assert(not ok and denied.reason == "PERMISSION_DENIED")
assert(stats.history_vectors == 5 and stats.dead_vectors == 6 and stats.searches_performed == 8)
assert(RAG.ingest_batch({"a", "b"}).documents_processed == 2)

-- What is not offered reads as nil, so that scripts can test for it.
assert(RAG.pipeline == nil and RAG.config == nil)

return "done"
