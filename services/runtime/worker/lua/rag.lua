-- `RAG`: documents in, passages out. Each function also takes one table of named arguments. What
-- else there is, is in rag_care.lua.

local kit = ...

local call, options = kit.call, kit.options
local first, read = options.first, options.read
local lower, next, type = string.lower, next, type
local insert, unpack = table.insert, table.unpack

local INGEST = "llmspell.v1.RagService/IngestDocuments"
local RETRIEVE = "llmspell.v1.RagService/RetrieveDocuments"

-- One call carries at most this many documents and bytes of text; a frame holds 2 MiB.
local BATCH_DOCUMENTS, BATCH_BYTES = 256, 1024 * 1024

local RAG = {}
kit.env.RAG = RAG
local rag = {}
kit.rag = rag

-- Options that are not given are taken from here: what RAG.configure was told last.
rag.defaults = {}

-- shared ---------------------------------------------------------------------------------------

-- Where a call goes; scope.lua checks the first two.
rag.PLACE = {
  scope = options.anything, scope_id = options.anything, tenant_id = options.text,
  collection = options.text,
}

function rag.known(...)
  local known = {}
  for _, names in next, {rag.PLACE, ...} do
    for name, check in next, names do known[name] = check end
  end
  return known
end

-- Options of one call over those that RAG.configure set; names that mean one thing go together.
local TOGETHER = {
  {"scope", "scope_id"}, {"k", "top_k", "limit"}, {"threshold"}, {"mode"}, {"fusion"}, {"weights"},
  {"mmr", "diversity"}, {"exact"}, {"min_recall"}, {"collection"}, {"tenant_id"}, {"provider"},
  {"chunking"}, {"ttl"},
}

function rag.with_defaults(given, known)
  for _, names in next, TOGETHER do
    if first(given, unpack(names)) == nil then
      for _, name in next, names do
        if known[name] then given[name] = rag.defaults[name] end
      end
    end
  end
  return given
end

-- A request's fields of place and the tenant to act for.
function rag.place(given, otherwise)
  local scope, tenant = kit.scope(given.scope, given.scope_id, otherwise or "global")
  if given.tenant_id ~= nil then tenant = given.tenant_id end
  return scope, tenant
end

-- A word of the contract as scripts see it.
function rag.word(name)
  return name and name ~= "UNSPECIFIED" and lower(name) or nil
end

-- search ---------------------------------------------------------------------------------------

local function weights_of(value, name)
  local given = read(value, {
    vector = options.number, dense = options.number, keyword = options.number,
    lexical = options.number,
  }, name, true)
  local dense, lexical = first(given, "vector", "dense") or 0.0, first(given, "keyword", "lexical")
  lexical = lexical or 0.0
  if dense < 0 or lexical < 0 or dense + lexical <= 0 then
    kit.invalid(name, "must be numbers of at least 0, one of them above: {vector =, keyword =}")
  end
  return {dense_weight = dense, lexical_weight = lexical}
end

local FUSIONS = options.one_of{rrf = "rank", reciprocal_rank = "rank", weighted = "weighted"}

local function fusion_of(value, name)
  if type(value) == "string" then value = {method = value} end
  local given = read(value, {method = FUSIONS, k = options.count(1)}, name, true)
  if given.method == "weighted" then
    if given.k then kit.invalid(name .. ".k", "goes with reciprocal_rank") end
    return {weighted = true}
  end
  return {reciprocal_rank_k = given.k or 0}
end

local function diversity_of(value, name)
  if value == false then return false end
  if value == true then return {strength = 0.5} end
  if type(value) == "number" then return {strength = options.share(value, name)} end
  local given = read(value, {
    strength = options.share, candidates = options.count(1, 1000),
  }, name, true)
  return {strength = given.strength or 0.5, candidates = given.candidates}
end

local MODES = options.one_of{
  dense = "DENSE", vector = "DENSE", lexical = "LEXICAL", keyword = "LEXICAL", hybrid = "HYBRID",
}

-- What may be set for a whole run, and what for one search only.
rag.SEARCH_DEFAULTS = {
  k = options.count(1), top_k = options.count(1), limit = options.count(1),
  threshold = options.number, mode = MODES, fusion = fusion_of, weights = weights_of,
  mmr = diversity_of, diversity = diversity_of, exact = options.flag, min_recall = options.share,
  provider = options.text,
}
local SEARCH = rag.known(rag.SEARCH_DEFAULTS, {
  query = options.text, filters = options.anything, filter = options.anything,
  metadata_filter = options.anything, event_time = options.span, ingest_time = options.span,
  as_of = options.time,
})

-- How two rankings become one: asking for that asks for hybrid search.
local function blend_of(given)
  local fusion, weights = given.fusion, given.weights
  local mode = given.mode
  if mode == nil and (fusion or weights) then mode = "HYBRID" end
  if mode ~= "HYBRID" then return mode, nil end
  if not fusion and not weights then return mode, nil end
  local blend = {reciprocal_rank_k = not fusion and 0 or nil}
  for _, part in next, {fusion or {}, weights or {}} do
    for name, value in next, part do blend[name] = value end
  end
  return mode, blend
end

local function passage_of(passage)
  return {
    id = passage.record_id, document_id = passage.document_id,
    chunk_index = passage.chunk_index or 0, score = passage.score or 0.0,
    content = passage.text, text = passage.text, metadata = passage.metadata or {},
    vector_score = passage.dense_score, keyword_score = passage.lexical_score,
    event_time = passage.event_time, ingest_time = passage.ingest_time,
  }
end

-- The list of passages that is also the table {success, total, results, …}: scripts use either.
local function results_of(answer)
  local found, results, passages = {}, {}, answer.passages or {}
  for i = 1, #passages do
    results[i] = passage_of(passages[i])
    found[i] = results[i]
  end
  found.success, found.total, found.results = true, #passages, results
  found.path, found.complete, found.exact = rag.word(answer.path), answer.complete, answer.exact
  found.candidates, found.match_count = answer.candidate_count, answer.match_count
  found.revision = answer.revision
  return found
end

local function exactness_of(exact)
  if exact == nil then return nil end
  return exact and "EXACT" or "APPROXIMATE"
end

-- The request of a search and the tenant to act for, of what a script gave.
local function search_request(query, given)
  given = rag.with_defaults(read(given, SEARCH), SEARCH)
  local scope, tenant = rag.place(given)
  local mode, fusion = blend_of(given)
  local diversity = first(given, "mmr", "diversity")
  return {
    scope = scope,
    collection_id = given.collection,
    text = query,
    filter = kit.filter(first(given, "filters", "filter", "metadata_filter")),
    provider = given.provider,
    mode = mode,
    fusion = fusion,
    diversity = diversity or nil,
    event_time = given.event_time,
    ingest_time = given.ingest_time,
    as_of = given.as_of,
    limit = first(given, "k", "top_k", "limit"),
    score_threshold = given.threshold,
    exactness = exactness_of(given.exact),
    min_recall = given.min_recall,
  }, tenant
end
rag.search_request = search_request

--| `RAG.search(query, options)`
--- The best passages for a text. Options: `k` (or `top_k`, `limit`; default 10), `scope`,
--- `scope_id`, `tenant_id`, `collection` (default `documents`), `threshold`, `filters` (or
--- `filter`, `metadata_filter`), `mode` (`dense`, `lexical`, `hybrid`), `fusion` (`rrf`,
--- `weighted`, or `{method, k}`), `weights = {vector, keyword}`, `mmr` (or `diversity`: true, 0 to
--- 1, or `{strength, candidates}`), `event_time` and `ingest_time` (`{from, to}`), `as_of`,
--- `exact`, `min_recall`, `provider`.
-- RAG.search(query, {k | top_k | limit, scope, scope_id, tenant_id, collection, threshold,
-- filters | filter | metadata_filter, provider, mode, fusion, weights = {vector, keyword},
-- mmr | diversity, event_time = {from, to}, ingest_time = {from, to}, as_of, min_recall, exact}),
-- or RAG.search{query = …, …}.
RAG.search = kit.either_way(RAG, function(query, given)
  local table_form = type(query) == "table" and given == nil
  if table_form then query, given = query.query, query end
  if query == nil then kit.required("query") end
  options.text(query, "query")
  return results_of(call(RETRIEVE, search_request(query, given)))
end)

-- ingest ---------------------------------------------------------------------------------------

local STRATEGIES = options.one_of{
  sliding_window = "CHARACTERS", characters = "CHARACTERS", sentences = "SENTENCES",
  tokens = "TOKENS", markdown = "MARKDOWN", code = "CODE",
}

local function chunking_of(value, name)
  local given = read(value, {
    strategy = STRATEGIES, unit = STRATEGIES, chunk_size = options.count(1),
    size = options.count(1), overlap = options.count(0), language = options.text,
  }, name)
  local unit = first(given, "strategy", "unit") or "CHARACTERS"
  if given.language and unit ~= "CODE" then
    kit.invalid(name .. ".language", "goes with the strategy code")
  end
  return {
    unit = unit, size = first(given, "chunk_size", "size"), overlap = given.overlap,
    language = given.language,
  }
end

rag.INGEST_DEFAULTS = {
  provider = options.text, chunking = chunking_of, ttl = options.seconds,
}
local INGEST_OPTIONS = rag.known(rag.INGEST_DEFAULTS, {
  documents = options.anything, batch_size = options.count(1, BATCH_DOCUMENTS),
})
local DOCUMENT = {
  content = options.text, text = options.text, id = options.text, metadata = options.table,
  event_time = options.time, ttl = options.seconds,
}
local TIMES = {timestamp = options.time, ttl_seconds = options.seconds}

local function document_of(document, path, ttl)
  if type(document) == "string" then document = {content = document} end
  if type(document) ~= "table" then kit.invalid(path, "must be a table or text") end
  local given = read(document, DOCUMENT, path)
  local text = first(given, "content", "text")
  if text == nil then kit.required(path .. ".content") end
  local metadata = given.metadata or {}
  local times = {}
  for name, check in kit.pairs(TIMES) do
    local value = metadata[name]
    if value ~= nil then times[name] = check(value, path .. ".metadata." .. name) end
  end
  return {
    document_id = given.id,
    text = text,
    metadata = next(metadata) ~= nil and metadata or nil,
    event_time = given.event_time or times.timestamp,
    ttl = given.ttl or times.ttl_seconds or ttl,
  }
end

-- One document or a list of them, as a list for the contract.
local function documents_of(documents, ttl)
  local kind = type(documents)
  if kind ~= "table" and kind ~= "string" then kit.required("documents") end
  if kind == "string" or documents.content ~= nil or documents.text ~= nil then
    return {document_of(documents, "document", ttl)}
  end
  -- A table that is neither a document nor a list lacks its content, and is told so.
  if #documents == 0 and next(documents) ~= nil then
    return {document_of(documents, "document", ttl)}
  end
  local result = {}
  for i = 1, #documents do
    result[i] = document_of(documents[i], "documents[" .. i .. "]", ttl)
  end
  return result
end

rag.documents_of, rag.chunking_of = documents_of, chunking_of

local function batches_of(documents, most)
  local batches, batch, bytes = {}, nil, 0
  for i = 1, #documents do
    local size = #documents[i].text
    if not batch or #batch >= most or bytes + size > BATCH_BYTES then
      batch, bytes = {}, 0
      insert(batches, batch)
    end
    insert(batch, documents[i])
    bytes = bytes + size
  end
  return batches
end

--| `RAG.ingest(documents, options)`
--- Chunks, embeds and stores one document or a list; also `RAG.ingest_batch`. A document is text,
--- or a table with `content` (or `text`), `id`, `metadata`, `event_time`, `ttl`;
--- `metadata.timestamp` is its event time too, `metadata.ttl_seconds` its time to live. Options:
--- `scope`, `scope_id`, `tenant_id`, `collection`, `provider`, `ttl`, `batch_size`, `chunking =
--- {strategy, chunk_size, overlap, language}` with strategy `sliding_window` (default),
--- `characters`, `sentences`, `tokens`, `markdown` or `code`.
-- RAG.ingest(document | {document, …}, {scope, scope_id, tenant_id, collection, provider, ttl,
-- batch_size, chunking = {strategy, chunk_size, overlap, language}}), or RAG.ingest{documents = …,
-- …}. A document is {content | text, id, metadata, event_time, ttl}; metadata.timestamp is its event
-- time too, metadata.ttl_seconds its time to live. Long lists become several calls; each call is
-- all or nothing.
RAG.ingest = kit.either_way(RAG, function(documents, given)
  if type(documents) == "table" and documents.documents ~= nil and given == nil then
    documents, given = documents.documents, documents
  end
  given = rag.with_defaults(read(given, INGEST_OPTIONS), INGEST_OPTIONS)
  local list = documents_of(documents, given.ttl)
  local scope, tenant = rag.place(given)
  local result = {
    success = true, documents_processed = #list, vectors_created = 0, total_tokens = 0,
    document_ids = {},
  }
  for _, batch in next, batches_of(list, given.batch_size or BATCH_DOCUMENTS) do
    local answer = call(INGEST, {
      scope = scope, collection_id = given.collection, documents = batch,
      chunking = given.chunking, provider = given.provider,
    }, tenant)
    result.vectors_created = result.vectors_created + (answer.chunk_count or 0)
    result.total_tokens = result.total_tokens + (answer.token_count or 0)
    for _, id in next, answer.document_ids or {} do insert(result.document_ids, id) end
  end
  return result
end)

-- The same, by the name that older scripts look for.
RAG.ingest_batch = RAG.ingest
