-- `RAG`, all but search and ingest: defaults of a run, documents, scopes, sessions, re-embedding.

local kit = ...

local call, options, rag, RAG = kit.call, kit.options, kit.rag, kit.env.RAG
local read = options.read
local error, next, pcall, type = error, next, pcall, type
local insert, min, maxinteger = table.insert, math.min, math.maxinteger

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

--| `RAG.configure(options)`
--- What later calls of this run do not name is taken from here: `scope`, `scope_id`, `tenant_id`,
--- `collection`, `provider`, `k`, `threshold`, `mode`, `fusion`, `weights`, `mmr`, `exact`,
--- `min_recall`, `chunking`, `ttl`. Replaces what was set before. An unknown name is an error.
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

--| `RAG.delete(ids, options)`
--- Removes documents, one id or a list, with all their chunks; how many chunks those were.
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

--| `RAG.documents(options)`
--- The documents in order of id: `{id, chunk_count, metadata, ingest_time}`; the first `limit`, or
--- all.
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

--| `RAG.list_providers()`
--- Names of the embedding providers.
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

--| `RAG.get_stats(scope, scope_id)`
--- `total_vectors`, `total_storage_bytes`, `collections`, `indexed_vectors`, `history_vectors`,
--- `history_bytes`, `memory_bytes`, `index_bytes`, `segments`, `dead_vectors`,
--- `searches_performed`, of a scope or of the whole tenant.
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

-- tenants --------------------------------------------------------------------------------------

-- Names of limits in scripts, and in the contract.
local LIMITS = {
  max_vectors = "vectors", max_storage_bytes = "bytes", max_dimensions = "dimensions",
  max_queries_per_minute = "requests_per_minute", max_tokens_per_minute = "tokens_per_minute",
  max_concurrent_calls = "concurrent_calls", max_concurrent_runs = "concurrent_runs",
  monthly_spending_limit = "monthly_cost_usd",
}
local LIMIT_CHECKS = {}
for name in next, LIMITS do LIMIT_CHECKS[name] = options.number end

--| `RAG.get_tenant_usage(tenant_id)`
--- What the run's tenant has and may have: `{tenant_id, vectors_stored, storage_bytes, collections,
--- searches_performed, tokens_consumed, cost_usd, limits}`; tokens and money are of this month.
--- `limits` has `max_vectors`, `max_storage_bytes`, `max_dimensions`, `max_queries_per_minute`,
--- `monthly_spending_limit`; `math.maxinteger` where there is none. Another tenant's is refused.
-- RAG.get_tenant_usage(tenant_id?): of the run's own tenant, unless the key may act for the other.
RAG.get_tenant_usage = kit.either_way(RAG, function(tenant_id)
  if tenant_id ~= nil then options.text(tenant_id, "tenant_id") end
  local answer = call("llmspell.v1.UsageService/GetTenantUsage", {}, tenant_id)
  local limits, month = {}, answer.month or {}
  for name, field in next, LIMITS do
    local limit = (answer.limits or {})[field] or 0
    limits[name] = limit ~= 0 and limit or maxinteger
  end
  return {
    tenant_id = answer.tenant_id, vectors_stored = answer.record_count or 0,
    storage_bytes = answer.stored_bytes or 0, collections = answer.collection_count or 0,
    searches_performed = answer.search_count or 0,
    tokens_consumed = (month.input_tokens or 0) + (month.output_tokens or 0),
    cost_usd = (month.cost_usd or 0) + 0.0, limits = limits,
  }
end)

--| `RAG.create_tenant{tenant_id, limits}`
--- Asks for a new tenant. Only a key with the permission `tenant.admin` may: no role of a tenant has
--- it, so a tenant's script is told `PERMISSION_DENIED`. Tenants are made by the operator, through
--- the gateway: `llmspell tenant create`.
-- RAG.create_tenant{tenant_id, name, limits, scope}: `scope` is read and not needed.
RAG.create_tenant = kit.either_way(RAG, function(given)
  given = read(given, {
    tenant_id = options.text, name = options.text, scope = options.anything,
    limits = options.anything,
  }, "options", true)
  if given.tenant_id == nil then kit.required("tenant_id") end
  local limits = {}
  for name, value in next, read(given.limits, LIMIT_CHECKS, "limits") do
    limits[LIMITS[name]] = value
  end
  local answer = call("llmspell.v1.TenantService/CreateTenant", {
    tenant_id = given.tenant_id, display_name = given.name, limits = limits,
  })
  return (answer.tenant or {}).tenant_id
end)

--| `RAG.cleanup_scope(scope, scope_id)`
--- Removes the vectors of a scope; how many there were.
-- RAG.cleanup_scope(scope, scope_id?) → how many vectors were removed. No default applies: what is
-- removed must be named.
RAG.cleanup_scope = kit.either_way(RAG, function(scope, scope_id)
  if scope == nil then kit.required("scope") end
  local text, tenant = named_place(scope, scope_id, "global")
  return call(VECTORS .. "DeleteScope", {scope = text}, tenant).deleted_count or 0
end)

--| `RAG.save(options)`
--- Has graphs take in all that was written and keeps them in files; true. Needs `vector.admin`.
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

--| `RAG.create_session_collection(session_id, ttl, options)`
--- A collection in the scope `session:ID` that ends after `ttl` seconds: `{session_id, namespace,
--- ttl, created}`. Options: `collection`, `provider`, `tenant_id`.
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

--| `RAG.configure_session{session_id, vector_ttl, ttl}`
--- How long each record of the session lives (3600 s unless said), and when all of them end:
--- `{session_id, vector_ttl, configured}`.
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

--| `RAG.reembed(provider, options)`
--- Begins to embed a collection anew: `{status, active, other, done, total, message}`.
-- RAG.reembed(provider, {scope, …, collection}): begins, or goes on, to embed a collection with
-- another provider; its old vectors answer until the new ones are complete.
RAG.reembed = kit.either_way(RAG, function(provider, given)
  if provider == nil then kit.required("provider") end
  options.text(provider, "provider")
  local _, request, tenant = placed(given)
  request.provider = provider
  return reembedding_of(call(SERVICE .. "ReembedCollection", request, tenant))
end)

--| `RAG.reembedding(options)`
--- How far that is; the status is `none`, `running`, `waiting` or `switched`.
-- RAG.reembedding{scope, …, collection} → {status, active, other, done, total, message}
RAG.reembedding = kit.either_way(RAG, function(given)
  local _, request, tenant = placed(given)
  return reembedding_of(call(SERVICE .. "GetReembedding", request, tenant))
end)

--| `RAG.end_reembedding(options)`
--- Ends it, or gives up the vectors that were kept to go back; how many.
-- RAG.end_reembedding{scope, …, collection} → how many vectors were given up.
RAG.end_reembedding = kit.either_way(RAG, function(given)
  local _, request, tenant = placed(given)
  return call(SERVICE .. "EndReembedding", request, tenant).deleted_count or 0
end)
