-- Every function of RAG, on a real deployment.

local where = {collection = "surface", scope = "custom:surface"}
local done = RAG.ingest({id = "tides", text = "The tide turns twice a day.", metadata = {lang = "en"}}, where)
assert(done.success and done.documents_processed == 1 and done.vectors_created == 1)
done = RAG.ingest_batch({
  {id = "moon", content = "The moon pulls at the sea.", metadata = {lang = "en"}},
  {id = "bread", content = "Bread needs flour, water and time.", metadata = {lang = "en"}},
}, where)
assert(done.documents_processed == 2)

local found = RAG.search("why does the sea rise?", {k = 2, collection = "surface", scope = "custom:surface"})
assert(found.success and found.total == 2 and found[1].text == found.results[1].text)
found = RAG.search{query = "bread", top_k = 1, collection = "surface", scope = "custom:surface", filters = {lang = "en"}}
assert(found[1].document_id == "bread" and found[1].content and found[1].score)
for _, wrong in ipairs{{}, {query = "x", top_k = 0}, {query = "x", filters = 5}} do
  assert(not pcall(RAG.search, wrong))
end

RAG.configure{collection = "surface", scope = "custom:surface", k = 1}
assert(#RAG.search("tide") == 1)
assert(#RAG.documents() == 3)
assert(RAG.delete("bread") == 1)
RAG.configure{}
assert(RAG.get_stats("custom", "surface").total_vectors == 2 and RAG.get_stats().collections >= 1)
assert(#RAG.list_providers() >= 1)
assert(RAG.save(where) == true)

local session = Session.create{name = "surface-rag"}
local made = RAG.create_session_collection(session, 60)
assert(made.session_id == session and made.namespace and made.ttl == 60)
assert(RAG.configure_session{session_id = session, vector_ttl = 30}.configured)
Session.delete(session)

local state = RAG.reembedding(where)
assert(type(state.status) == "string")
assert(not pcall(RAG.reembed, "no such provider", where))
assert(type(RAG.end_reembedding(where)) == "number")
assert(RAG.cleanup_scope("custom", "surface") == 2)

-- workflow_builder: the same calls as one workflow; workflow.lua runs it
local flow = RAG.workflow_builder():with_vector_storage("docs"):with_retrieval{k = 1}:build()
assert(flow.type == "sequential" and #flow:get_info().definition.sequential.steps == 2)

-- what the tenant has; making one is the operator's
assert(type(RAG.get_tenant_usage()) == "table")
assert(not pcall(RAG.create_tenant, "another"))

return "done"
