-- What examples/pages.py asked on the command line, asked by a script. Its arguments: `before`, a
-- time before a page was deleted, and `deleted`, that page's id.

RAG.configure{collection = "manual", k = 3}

local question = "how do I catch an exception"
for _, mode in ipairs{"dense", "lexical", "hybrid"} do
  local found = RAG.search(question, {mode = mode})
  print(("%-8s %d passages, best %s (%.3f), %s, complete: %s"):format(
    mode, found.total, found[1].document_id, found[1].score, found.path or "by words",
    tostring(found.complete)
  ))
  assert(found.total == 3 and found.complete)
end

local function ids(found)
  local set = {}
  for _, hit in ipairs(found) do set[hit.document_id] = true end
  return set
end

-- A filter may be as short as this, or as Qdrant has it.
local short = RAG.search(question, {filters = {title = {prefix = "comp"}}})
local long = RAG.search(question, {
  filters = {must_not = {{key = "title", match = {any = {"compound", "exceptions"}}}}},
})
for _, hit in ipairs(short) do assert(hit.metadata.title:find("^comp")) end
for _, hit in ipairs(long) do assert(hit.metadata.title ~= "compound") end

-- The page that was deleted is gone now, and was there then.
local now, before = RAG.search(question), RAG.search(question, {as_of = ARGS.before})
assert(not ids(now)[ARGS.deleted] and ids(before)[ARGS.deleted])
print("then: " .. before[1].document_id .. ", now: " .. now[1].document_id)

-- A session's own documents end with it.
RAG.create_session_collection("reader-7", 600, {collection = "documents"})
RAG.ingest("The reader likes short answers.", {scope = "session:reader-7", collection = "documents"})
local own = RAG.search("what does the reader like", {
  scope = "session:reader-7", collection = "documents",
})
assert(own.total == 1)

print(#RAG.documents() .. " documents, " .. RAG.get_stats().history_vectors .. " vectors of the past")
return {documents = #RAG.documents(), own = own[1].text}
