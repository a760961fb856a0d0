-- `RAG`: documents in, passages out. Each function also takes one table of named arguments.

local kit = ...

local call, integer, scope_of = kit.call, kit.integer, kit.scope
local next, type, insert = next, type, table.insert

local INGEST = "llmspell.v1.RagService/IngestDocuments"
local RETRIEVE = "llmspell.v1.RagService/RetrieveDocuments"
local PROVIDERS = "llmspell.v1.RagService/ListEmbeddingProviders"
local DELETE_SCOPE = "llmspell.v1.VectorService/DeleteScope"
local STATS = "llmspell.v1.VectorService/GetVectorStats"

-- One call carries at most this many documents and bytes of text; a frame holds 2 MiB.
local BATCH_DOCUMENTS, BATCH_BYTES = 256, 1024 * 1024

local UNITS = {
  sliding_window = "CHARACTERS", characters = "CHARACTERS", sentences = "SENTENCES",
  tokens = "TOKENS",
}

local RAG = {}
kit.env.RAG = RAG

local function options_of(value, field)
  if value == nil then return {} end
  if type(value) ~= "table" then kit.invalid(field, "must be a table, not a " .. type(value)) end
  return value
end

local function text_of(value, field)
  if value == nil or type(value) == "string" then return value end
  kit.invalid(field, "must be text, not a " .. type(value))
end

-- Scope text and tenant of an option table.
local function place_of(options)
  local scope, tenant = scope_of(options.scope, options.scope_id, "global")
  return scope, text_of(options.tenant_id, "tenant_id") or tenant
end

-- search ---------------------------------------------------------------------------------------

local function limit_of(options)
  for _, name in next, {"k", "top_k", "limit"} do
    local value = options[name]
    if value ~= nil then
      local count = integer(value)
      if not count or count <= 0 then kit.invalid(name, "must be a whole number above 0") end
      return count
    end
  end
end

local function threshold_of(options)
  local value = options.threshold
  if value == nil then return nil end
  if type(value) ~= "number" then kit.invalid("threshold", "must be a number") end
  return value + 0.0
end

-- The list of passages that is also the table {success, total, results}: scripts use either.
local function results_of(passages)
  local answer, results = {}, {}
  for i = 1, #passages do
    local passage = passages[i]
    results[i] = {
      id = passage.record_id, document_id = passage.document_id,
      chunk_index = passage.chunk_index or 0, score = passage.score or 0.0,
      content = passage.text, text = passage.text, metadata = passage.metadata or {},
    }
    answer[i] = results[i]
  end
  answer.success, answer.total, answer.results = true, #passages, results
  return answer
end

-- RAG.search(query, {k | top_k | limit, scope, scope_id, tenant_id, collection, threshold,
-- filters | filter | metadata_filter, provider, exact}), or RAG.search{query = …, …}.
RAG.search = kit.either_way(RAG, function(query, options)
  if type(query) == "table" and options == nil then query, options = query.query, query end
  if query == nil then kit.required("query") end
  text_of(query, "query")
  options = options_of(options, "options")
  local scope, tenant = place_of(options)
  local filters = options.filters
  if filters == nil then filters = options.filter end
  if filters == nil then filters = options.metadata_filter end
  local answer = call(RETRIEVE, {
    scope = scope,
    collection_id = text_of(options.collection, "collection"),
    text = query,
    filter = kit.filter(filters),
    provider = text_of(options.provider, "provider"),
    limit = limit_of(options),
    score_threshold = threshold_of(options),
    exactness = options.exact and "EXACT" or nil,
  }, tenant)
  return results_of(answer.passages or {})
end)

-- ingest ---------------------------------------------------------------------------------------

local function seconds_of(value, field)
  if value == nil then return nil end
  if type(value) ~= "number" or not (value > 0) then
    kit.invalid(field, "must be a number of seconds above 0")
  end
  return value
end

local function time_of(value, field)
  if value == nil or type(value) == "number" or type(value) == "string" then return value end
  kit.invalid(field, "must be seconds since 1970 or RFC 3339 text")
end

local function document_of(document, path)
  if type(document) == "string" then document = {content = document} end
  if type(document) ~= "table" then kit.invalid(path, "must be a table or text") end
  local text = document.content
  if text == nil then text = document.text end
  if text == nil then kit.required(path .. ".content") end
  local metadata = options_of(document.metadata, path .. ".metadata")
  return {
    document_id = text_of(document.id, path .. ".id"),
    text = text_of(text, path .. ".content"),
    metadata = next(metadata) ~= nil and metadata or nil,
    event_time = time_of(metadata.timestamp, path .. ".metadata.timestamp"),
    ttl = seconds_of(metadata.ttl_seconds, path .. ".metadata.ttl_seconds"),
  }
end

-- One document or a list of them, as a list for the contract.
local function documents_of(documents)
  local kind = type(documents)
  if kind ~= "table" and kind ~= "string" then kit.required("documents") end
  if kind == "string" or documents.content ~= nil or documents.text ~= nil then
    return {document_of(documents, "document")}
  end
  -- A table that is neither a document nor a list lacks its content, and is told so.
  if #documents == 0 and next(documents) ~= nil then return {document_of(documents, "document")} end
  local result = {}
  for i = 1, #documents do result[i] = document_of(documents[i], "documents[" .. i .. "]") end
  return result
end

local function count_of(value, field, least)
  if value == nil then return nil end
  local count = integer(value)
  if not count or count < least then
    kit.invalid(field, "must be a whole number of at least " .. least)
  end
  return count
end

local function chunking_of(value)
  if value == nil then return nil end
  local options = options_of(value, "chunking")
  local strategy = options.strategy
  local unit = strategy == nil and UNITS.sliding_window or UNITS[strategy]
  if not unit then
    kit.invalid("chunking.strategy", "must be one of sliding_window, characters, sentences, tokens")
  end
  return {
    unit = unit,
    size = count_of(options.chunk_size, "chunking.chunk_size", 1),
    overlap = count_of(options.overlap, "chunking.overlap", 0),
  }
end

local function batches_of(documents)
  local batches, batch, bytes = {}, nil, 0
  for i = 1, #documents do
    local size = #documents[i].text
    if not batch or #batch >= BATCH_DOCUMENTS or bytes + size > BATCH_BYTES then
      batch, bytes = {}, 0
      insert(batches, batch)
    end
    insert(batch, documents[i])
    bytes = bytes + size
  end
  return batches
end

-- RAG.ingest(document | {document, …}, {scope, scope_id, tenant_id, collection, provider,
-- chunking = {chunk_size, overlap, strategy}}) or RAG.ingest{documents = …, …}. A document is
-- {content | text, id, metadata}; metadata.timestamp is its event time, metadata.ttl_seconds its
-- time to live. Long lists become several calls; each call is all or nothing.
RAG.ingest = kit.either_way(RAG, function(documents, options)
  if type(documents) == "table" and documents.documents ~= nil and options == nil then
    documents, options = documents.documents, documents
  end
  options = options_of(options, "options")
  local list, chunking = documents_of(documents), chunking_of(options.chunking)
  local scope, tenant = place_of(options)
  local collection = text_of(options.collection, "collection")
  local provider = text_of(options.provider, "provider")
  local result = {
    success = true, documents_processed = #list, vectors_created = 0, total_tokens = 0,
    document_ids = {},
  }
  for _, batch in next, batches_of(list) do
    local answer = call(INGEST, {
      scope = scope, collection_id = collection, documents = batch, chunking = chunking,
      provider = provider,
    }, tenant)
    result.vectors_created = result.vectors_created + (answer.chunk_count or 0)
    result.total_tokens = result.total_tokens + (answer.token_count or 0)
    for _, id in next, answer.document_ids or {} do insert(result.document_ids, id) end
  end
  return result
end)

-- The rest -------------------------------------------------------------------------------------

local function named_place(scope, scope_id, otherwise)
  local options = type(scope) == "table" and scope or {scope = scope, scope_id = scope_id}
  local text, tenant = scope_of(options.scope, options.scope_id, otherwise)
  return text, text_of(options.tenant_id, "tenant_id") or tenant
end

-- RAG.get_stats(scope?, scope_id?): of a scope, or of the whole tenant.
RAG.get_stats = kit.either_way(RAG, function(scope, scope_id)
  local text, tenant = named_place(scope, scope_id, nil)
  local answer = call(STATS, {scope = text}, tenant)
  return {
    total_vectors = answer.record_count or 0, total_storage_bytes = answer.stored_bytes or 0,
    collections = answer.collection_count or 0, indexed_vectors = answer.indexed_count or 0,
  }
end)

-- RAG.cleanup_scope(scope, scope_id?) → how many vectors were removed.
RAG.cleanup_scope = kit.either_way(RAG, function(scope, scope_id)
  if scope == nil then kit.required("scope") end
  local text, tenant = named_place(scope, scope_id, "global")
  return call(DELETE_SCOPE, {scope = text}, tenant).deleted_count or 0
end)

-- RAG.list_providers() → names of the embedding providers.
RAG.list_providers = kit.either_way(RAG, function()
  local names = {}
  for i, provider in next, call(PROVIDERS, {}).providers or {} do names[i] = provider.name end
  return names
end)
