--[==[ template
id = "knowledge-management"
name = "Knowledge management"
description = "Keeps documents in a collection and answers questions from them, with citations."
category = "Research"
version = "1.0.0"
requires = ["rag"]
tags = ["knowledge", "rag", "search"]
result_schema = '{"type":"object","properties":{"operation":{"type":"string"},"collection":{"type":"string"},"passages":{"type":"array"},"text":{"type":"string"},"chunks":{"type":"integer"}},"required":["operation","collection"]}'

[[parameters]]
name = "operation"
type = "string"
description = "What is done."
required = true
allowed = ["ingest", "query", "search", "update", "delete", "list"]

[[parameters]]
name = "collection"
type = "string"
description = "Collection that it is in."
required = true
min_length = 1
max_length = 64

[[parameters]]
name = "content"
type = "string"
description = "Text of a document: ingest, update."
max_length = 1000000

[[parameters]]
name = "query"
type = "string"
description = "Question: query, search."
max_length = 10000

[[parameters]]
name = "document_id"
type = "string"
description = "Id of a document: update, delete."
max_length = 200

[[parameters]]
name = "source_type"
type = "string"
description = "What the text is."
default = "text"
allowed = ["text", "markdown", "code"]

[[parameters]]
name = "max_results"
type = "integer"
description = "Most passages."
default = 5
min = 1
max = 100

[[parameters]]
name = "include_citations"
type = "boolean"
description = "Whether an answer tells its sources."
default = true

[[parameters]]
name = "chunk_size"
type = "integer"
description = "Characters of a passage."
default = 1000
min = 100
max = 8000

[[parameters]]
name = "chunk_overlap"
type = "integer"
description = "Characters that passages share."
default = 200
min = 0
max = 4000

[[parameters]]
name = "output_format"
type = "string"
description = "Of text."
default = "markdown"
allowed = ["markdown", "text", "json"]
]==]

local params = JSON.parse(ARGS.params or "{}")

local collection = params.collection
local function needed(name)
  return params[name] or error(params.operation .. " needs the parameter " .. name, 0)
end

local operations = {}

function operations.ingest()
  local strategies = {text = "sliding_window", markdown = "markdown", code = "code"}
  local chunking = {strategy = strategies[params.source_type], chunk_size = params.chunk_size}
  if params.source_type == "text" then
    chunking.overlap = math.min(params.chunk_overlap, params.chunk_size // 2)
  end
  local told = RAG.ingest({{id = params.document_id, content = needed("content")}}, {
    collection = collection, chunking = chunking,
  })
  return {chunks = told.vectors_created or told.total_chunks, text = "The document is kept."}
end

function operations.update()
  RAG.delete(needed("document_id"), {collection = collection})
  return operations.ingest()
end

function operations.delete()
  local chunks = RAG.delete(needed("document_id"), {collection = collection})
  return {chunks = chunks, text = "The document is gone."}
end

function operations.list()
  return {documents = RAG.documents({collection = collection})}
end

function operations.search()
  -- A list even where nothing is in it.
  local passages = JSON.parse("[]")
  for i, hit in ipairs(RAG.search(needed("query"), {
    collection = collection, k = params.max_results, mode = "hybrid",
  })) do
    passages[i] = {number = i, text = hit.text or hit.content, score = hit.score, id = hit.id}
  end
  return {passages = passages}
end

function operations.query()
  local told, lines = operations.search(), {}
  for _, passage in ipairs(told.passages) do
    local source = params.include_citations and (" [%s]"):format(passage.id) or ""
    lines[#lines + 1] = ("%d. %s%s"):format(passage.number, passage.text, source)
  end
  told.text = #lines > 0 and table.concat(lines, "\n") or "Nothing is known of that."
  return told
end

local result = operations[params.operation]()
result.operation, result.collection = params.operation, collection
return {result_type = "structured", result = result}
