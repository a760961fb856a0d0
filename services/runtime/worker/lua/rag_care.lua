-- `RAG`, all but search and ingest: defaults of a run, documents, scopes, sessions, re-embedding.

local kit = ...

local call, options, rag, RAG = kit.call, kit.options, kit.rag, kit.env.RAG
local read = options.read
local error, next, pcall, type = error, next, pcall, type
local insert, min = table.insert, math.min

local SERVICE, VECTORS = "llmspell.v1.RagService/", "llmspell.v1.VectorService/"
local IDS_MAX, PAGE_SIZE = 1000, 1000

local PLACE = rag.PLACE

local function placed(given, known)
  given = rag.with_defaults(read(given, known or PLACE), known or PLACE)
  local scope, tenant = rag.place(given)
  return given, {scope = scope, collection_id = given.collection}, tenant
end

-- configure ------------------------------------------------------------------------------------

local CONFIGURE = rag.known(rag.SEARCH_DEFAULTS, rag.INGEST_DEFAULTS)

-- RAG.configure(t): from now on, what a call of this run does not name is taken from t. What t
-- lacks has no such default, so RAG.configure{} takes them all away. Gives true.
RAG.configure = kit.either_way(RAG, function(given)
  if given == nil then kit.required("options") end
  local checked = read(given, CONFIGURE, "options", true)
  rag.place(checked)
  rag.defaults = checked
  return true
end)

-- documents ------------------------------------------------------------------------------------

local function ids_of(ids)
  if type(ids) == "string" then ids = {ids} end
  if type(ids) ~= "table" then kit.required("ids") end
  if #ids == 0 and next(ids) ~= nil then kit.invalid("ids", "must be a list of document ids") end
  for i = 1, #ids do options.text(ids[i], "ids[" .. i .. "]") end
  return ids
end

-- RAG.delete(id | {id, …}, {scope, …, collection}) → how many chunks were removed. The ids are of
-- documents, and each goes as a whole.
RAG.delete = kit.either_way(RAG, function(ids, given)
  local list, removed = ids_of(ids), 0
  local _, request, tenant = placed(given)
  for start = 1, #list, IDS_MAX do
    local part = kit.list{}
    for i = start, min(start + IDS_MAX - 1, #list) do insert(part, list[i]) end
    request.document_ids = part
    removed = removed + (call(SERVICE .. "DeleteDocuments", request, tenant).deleted_count or 0)
  end
  return removed
end)

local LISTING = rag.known{limit = options.count(1)}

-- RAG.documents{scope, …, collection, limit} → list of {id, chunk_count, metadata, ingest_time} in
-- order of id: all of them, or the first `limit`.
RAG.documents = kit.either_way(RAG, function(given)
  given = read(given, LISTING)
  local limit = given.limit
  local _, request, tenant = placed(given, PLACE)
  local found = {}
  repeat
    request.page_size = min(limit and limit - #found or PAGE_SIZE, PAGE_SIZE)
    local answer = call(SERVICE .. "ListDocuments", request, tenant)
    for _, document in next, answer.documents or {} do
      insert(found, {
        id = document.document_id, chunk_count = document.chunk_count or 0,
        metadata = document.metadata or {}, ingest_time = document.ingest_time,
      })
    end
    request.page_token = answer.next_page_token
  until not request.page_token or request.page_token == "" or (limit and #found >= limit)
  return found
end)

-- RAG.list_providers() → names of the embedding providers.
RAG.list_providers = kit.either_way(RAG, function()
  local names = {}
  for i, provider in next, call(SERVICE .. "ListEmbeddingProviders", {}).providers or {} do
    names[i] = provider.name
  end
  return names
end)

-- scopes ---------------------------------------------------------------------------------------

local function named_place(scope, scope_id, otherwise)
  local given = {scope = scope, scope_id = scope_id}
  if type(scope) == "table" then given = read(scope, PLACE) end
  local text, tenant = kit.scope(given.scope, given.scope_id, otherwise)
  return text, given.tenant_id or tenant or rag.defaults.tenant_id
end

-- RAG.get_stats(scope?, scope_id?): of a scope, or of the whole tenant.
RAG.get_stats = kit.either_way(RAG, function(scope, scope_id)
  local text, tenant = named_place(scope, scope_id, nil)
  local answer = call(VECTORS .. "GetVectorStats", {scope = text}, tenant)
  return {
    total_vectors = answer.record_count or 0, total_storage_bytes = answer.stored_bytes or 0,
    collections = answer.collection_count or 0, indexed_vectors = answer.indexed_count or 0,
    history_vectors = answer.history_count or 0, history_bytes = answer.history_bytes or 0,
    memory_bytes = answer.memory_bytes or 0, index_bytes = answer.index_bytes or 0,
    segments = answer.segment_count or 0, dead_vectors = answer.dead_count or 0,
    searches_performed = answer.search_count or 0,
  }
end)

-- RAG.cleanup_scope(scope, scope_id?) → how many vectors were removed. No default applies: what is
-- removed must be named.
RAG.cleanup_scope = kit.either_way(RAG, function(scope, scope_id)
  if scope == nil then kit.required("scope") end
  local text, tenant = named_place(scope, scope_id, "global")
  return call(VECTORS .. "DeleteScope", {scope = text}, tenant).deleted_count or 0
end)

-- RAG.save{scope, …, collection}: graphs take in all that was written and are kept in files. What
-- was ingested is on disk without it. Gives true.
RAG.save = kit.either_way(RAG, function(given)
  local _, request, tenant = placed(given)
  request.collection_id = request.collection_id or "documents"
  local ok, failure = pcall(
    call, "llmspell.v1.VectorAdminService/CheckpointIndex", request, tenant
  )
  if not ok and not (kit.is_failure(failure) and failure.reason == "COLLECTION_NOT_FOUND") then
    error(failure, 0)
  end
  return true
end)

-- sessions -------------------------------------------------------------------------------------

local function session_of(session_id)
  if session_id == nil then kit.required("session_id") end
  options.text(session_id, "session_id")
  if session_id == "" then kit.invalid("session_id", "must not be empty") end
  return "session:" .. session_id
end

local SESSION = {
  session_id = options.anything, ttl = options.seconds, collection = options.text,
  provider = options.text, tenant_id = options.text,
}

-- RAG.create_session_collection(session_id, ttl?, {collection, provider, tenant_id}): documents of
-- a session, for `ttl` seconds. → {session_id, namespace, ttl, created}
RAG.create_session_collection = kit.either_way(RAG, function(session_id, ttl, given)
  if type(session_id) == "table" then
    session_id, ttl, given = session_id.session_id, session_id.ttl, session_id
  end
  local scope = session_of(session_id)
  if ttl ~= nil then options.seconds(ttl, "ttl") end
  given = rag.with_defaults(read(given, SESSION), SESSION)
  call(SERVICE .. "EnsureDocumentCollection", {
    scope = scope, collection_id = given.collection, provider = given.provider, ttl = ttl,
  }, given.tenant_id)
  return {session_id = session_id, namespace = "session_" .. session_id, ttl = ttl, created = true}
end)

local CONFIGURE_SESSION = {
  session_id = options.anything, vector_ttl = options.seconds, ttl = options.seconds,
  tenant_id = options.text,
}
local VECTOR_TTL = 3600

-- RAG.configure_session{session_id, vector_ttl = 3600, ttl}: how long each record of the session
-- lives, and when the session's records end as a whole. → {session_id, vector_ttl, configured}
RAG.configure_session = kit.either_way(RAG, function(given)
  given = rag.with_defaults(read(given, CONFIGURE_SESSION), {tenant_id = options.text})
  local scope, vector_ttl = session_of(given.session_id), given.vector_ttl or VECTOR_TTL
  call(
    VECTORS .. "ConfigureScope", {scope = scope, record_ttl = vector_ttl, ttl = given.ttl},
    given.tenant_id
  )
  return {session_id = given.session_id, vector_ttl = vector_ttl, configured = true}
end)

-- re-embedding ---------------------------------------------------------------------------------

local function identity_of(identity)
  if not identity then return nil end
  return {
    provider = identity.provider, model = identity.model, dimension = identity.dimension,
  }
end

local function reembedding_of(answer)
  local state = answer.reembedding or {}
  local message = state.message
  return {
    status = rag.word(state.status) or "none", active = identity_of(state.active),
    other = identity_of(state.other), done = state.done_count or 0, total = state.total_count or 0,
    message = message ~= "" and message or nil,
  }
end

-- RAG.reembed(provider, {scope, …, collection}): begins, or goes on, to embed a collection with
-- another provider; its old vectors answer until the new ones are complete.
RAG.reembed = kit.either_way(RAG, function(provider, given)
  if provider == nil then kit.required("provider") end
  options.text(provider, "provider")
  local _, request, tenant = placed(given)
  request.provider = provider
  return reembedding_of(call(SERVICE .. "ReembedCollection", request, tenant))
end)

-- RAG.reembedding{scope, …, collection} → {status, active, other, done, total, message}
RAG.reembedding = kit.either_way(RAG, function(given)
  local _, request, tenant = placed(given)
  return reembedding_of(call(SERVICE .. "GetReembedding", request, tenant))
end)

-- RAG.end_reembedding{scope, …, collection} → how many vectors were given up.
RAG.end_reembedding = kit.either_way(RAG, function(given)
  local _, request, tenant = placed(given)
  return call(SERVICE .. "EndReembedding", request, tenant).deleted_count or 0
end)
