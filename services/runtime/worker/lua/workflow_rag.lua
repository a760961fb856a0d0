-- `Workflow.rag()`: documents in and passages out as one workflow, each part a step that calls what
-- `RAG` calls. The same builder is `RAG.workflow_builder()`.

local kit = ...

local first, options, rag, workflow = kit.options.first, kit.options, kit.rag, kit.workflow
local error, next, setmetatable, type = error, next, setmetatable, type
local find = string.find

local Builder = {__name = "rag workflow builder", __metatable = false}
Builder.__index = Builder
local behind = setmetatable({}, {__mode = "k"})

local function given_of(builder, name)
  local given = type(builder) == "table" and behind[builder]
  if not given then error("builder:" .. name .. ": call it with a colon on a builder", 3) end
  return given
end

local function sets(field, check)
  return function(self, value)
    if value == nil then kit.required(field) end
    given_of(self, field)[field] = check(value, field)
    return self
  end
end

Builder.name, Builder.description = sets("name", options.text), sets("description", options.text)
Builder.timeout_ms = sets("timeout_ms", options.count(1))
Builder.error_strategy = sets("error_strategy", options.anything)
Builder.retry = sets("retry", options.anything)

-- Documents as the contract has them; a reference to an input stays one.
local function documents_of(value, name)
  if type(value) == "string" and find(value, "{{", 1, true) then return value end
  if value == nil then kit.required(name) end
  return kit.list(rag.documents_of(value))
end

local INGESTION = {
  documents = options.anything, chunking = rag.chunking_of, provider = options.text,
  input = options.text,
}

-- with_document_ingestion{documents, chunking, provider}: without documents they are the input
-- `documents` (or the one that `input` names) of each execution.
function Builder:with_document_ingestion(given)
  local all = given_of(self, "with_document_ingestion")
  local set = options.read(given, INGESTION, "ingestion")
  all.ingestion = set
  set.input = set.input or "documents"
  return self
end

local EMBEDDING = {provider = options.text, model = options.text, texts = options.anything}

-- with_embedding_generation(provider) or {provider, texts}: whose vectors; with texts, a reference or a
-- list, their vectors are an output of their own.
function Builder:with_embedding_generation(given)
  if type(given) == "string" then given = {provider = given} end
  local all = given_of(self, "with_embedding_generation")
  local set = options.read(given, EMBEDDING, "embedding")
  set.provider = first(set, "provider", "model")
  all.embedding = set
  return self
end

local STORAGE = {
  collection = options.text, scope = options.anything, scope_id = options.anything,
  hnsw = options.table, ttl = options.seconds, default_ttl = options.seconds,
}

-- with_vector_storage(collection) or {collection, scope, scope_id, hnsw, ttl}.
function Builder:with_vector_storage(given)
  if type(given) == "string" then given = {collection = given} end
  given_of(self, "with_vector_storage").storage = options.read(given, STORAGE, "storage")
  return self
end

-- with_retrieval(mode) or {query, mode, k, …} as in RAG.search: without a query it is the input
-- `query` of each execution.
function Builder:with_retrieval(given)
  if type(given) == "string" then given = {mode = given} end
  given_of(self, "with_retrieval").retrieval = given and options.table(given, "retrieval") or {}
  return self
end

-- add_step(step): after the others, such as an agent that answers from
-- `{{steps.retrieve.output.passages}}`.
function Builder:add_step(step)
  local all = given_of(self, "add_step")
  if step == nil then kit.required("step") end
  all.more[#all.more + 1] = step
  return self
end

local function call_step(name, method, arguments)
  return {name = name, type = "call", method = "RagService/" .. method, request = arguments}
end

local function retrieval_step(all, place)
  local query, given = all.retrieval.query, {}
  for name, value in next, all.retrieval do given[name] = value end
  for name, value in next, place do given[name] = given[name] or value end
  given.query = nil
  local request = rag.search_request(query or "{{inputs.query}}", given)
  return call_step("retrieve", "RetrieveDocuments", request)
end

local function steps_of(all)
  local steps, storage, embedding = {}, all.storage or {}, all.embedding or {}
  local scope = rag.place(storage)
  local function add(step) steps[#steps + 1] = step end
  if all.storage then
    add(call_step("prepare", "EnsureDocumentCollection", {
      scope = scope, collection_id = storage.collection, provider = embedding.provider,
      hnsw = storage.hnsw, ttl = storage.ttl, default_ttl = storage.default_ttl,
    }))
  end
  if embedding.texts ~= nil then
    add(call_step("embed", "EmbedTexts", {texts = embedding.texts, provider = embedding.provider}))
  end
  local ingestion = all.ingestion
  if ingestion then
    local documents = ingestion.documents
    if documents == nil then documents = "{{inputs." .. ingestion.input .. "}}" end
    add(call_step("ingest", "IngestDocuments", {
      scope = scope, collection_id = storage.collection, chunking = ingestion.chunking,
      documents = documents_of(documents, "documents"),
      provider = ingestion.provider or embedding.provider,
    }))
  end
  if all.retrieval then
    add(retrieval_step(all, {
      scope = scope, collection = storage.collection, provider = embedding.provider,
    }))
  end
  for _, step in next, all.more do add(step) end
  return steps
end

-- The inputs of an execution, with documents as the contract has them.
local function shaped_by(ingestion)
  if not ingestion or ingestion.documents ~= nil then return nil end
  return function(inputs)
    local shaped = {}
    for name, value in next, inputs do shaped[name] = value end
    shaped[ingestion.input] = documents_of(inputs[ingestion.input], ingestion.input)
    return shaped
  end
end

-- builder:build() → a workflow with the steps prepare, embed, ingest and retrieve, those that were
-- asked for.
function Builder:build()
  local all = given_of(self, "build")
  local steps = steps_of(all)
  if #steps == 0 then kit.required("steps") end
  local instance = workflow.make("sequential", {
    name = all.name or "rag", description = all.description, steps = steps,
    timeout_ms = all.timeout_ms, error_strategy = all.error_strategy, retry = all.retry,
  })
  workflow.find(instance).shape = shaped_by(all.ingestion)
  return instance
end

local function new_builder()
  local builder = setmetatable({}, Builder)
  behind[builder] = {more = {}}
  return builder
end

--| `Workflow.rag()`
--- A builder of a workflow on documents; also `RAG.workflow_builder()`: `name`, `description`,
--- `timeout_ms`, `error_strategy`, `retry`, `with_vector_storage{collection, scope}`,
--- `with_embedding_generation{provider, texts}`, `with_document_ingestion{documents, chunking}`,
--- `with_retrieval{query, mode, k, …}`, `add_step`, `build`. Its steps are `prepare`, `embed`,
--- `ingest` and `retrieve`, each there if it was asked for.
kit.env.Workflow.rag = kit.either_way(kit.env.Workflow, new_builder)

--| `RAG.workflow_builder()`
--- As `Workflow.rag()`.
kit.env.RAG.workflow_builder = kit.either_way(kit.env.RAG, new_builder)
