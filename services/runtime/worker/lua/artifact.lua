-- `Artifact`: named bytes with versions, usually of a session. Contents go out in one call and come
-- back in ranges, for a call carries no more than a frame.

local kit = ...

local call, options, required = kit.call, kit.options, kit.required
local error, next, pcall, rawget, type = error, next, pcall, rawget, type
local find, match, sub = string.find, string.match, string.sub
local concat, min = table.concat, math.min

local SERVICE = "llmspell.v1.ArtifactService/"
-- Bytes of one range, entries of one page, and what a store's name, tags and metadata may take.
local RANGE_BYTES, PAGE_SIZE, HEADER_BYTES = 1024 * 1024, 100, 64 * 1024
local FILE_RANGE_BYTES = 1900000

local Artifact = {}
kit.env.Artifact = Artifact

-- whose and which ------------------------------------------------------------------------------

-- The scope of a session's id or of KIND:NAME, and the tenant to act for; nil and "" mean the run's
-- session, or `global` where it has none.
local function scope_of(session)
  if session ~= nil and type(session) ~= "string" then
    kit.invalid("session", "must be text, not a " .. type(session))
  end
  if session == nil or session == "" then
    return kit.session_id and "session:" .. kit.session_id or "global"
  end
  if session == "global" or find(session, ":", 1, true) then
    return kit.scope(session, nil, "global")
  end
  return "session:" .. session
end

local function id_of(artifact)
  return {
    content_hash = artifact.digest,
    session_id = match(artifact.scope, "^session:(.+)$") or artifact.scope,
    sequence = artifact.sequence,
  }
end

local ID = {
  content_hash = options.text, session_id = options.text, sequence = options.count(1),
  name = options.text, version = options.count(1), id = options.table,
}

-- What an id, or what `list` and `get` say of an artifact, chooses; and the tenant.
local function choice_of(session, id)
  if id == nil then required("id") end
  options.table(id, "id")
  local named = options.read(id.id or id, ID, "id")
  local scope, tenant = scope_of(session)
  if named.session_id then
    local own = scope_of(named.session_id)
    if session == nil or session == "" then
      scope = own
    elseif own ~= scope then
      kit.invalid("id.session_id", "must be that of the session, which is " .. scope)
    end
  end
  return {
    scope = scope, digest = named.content_hash, sequence = named.sequence, name = named.name,
    version = named.version,
  }, tenant
end

-- An artifact as scripts see it; times are seconds since 1970.
local function described(artifact)
  return {
    id = id_of(artifact), name = artifact.name, description = artifact.description,
    artifact_type = artifact.artifact_type, mime_type = artifact.mime_type,
    size = artifact.size_bytes, original_size = artifact.size_bytes,
    is_compressed = artifact.stored_bytes < artifact.size_bytes, tags = artifact.tags,
    custom = artifact.metadata, version = artifact.version, created_at = artifact.create_time,
    created_by = artifact.created_by,
    parent_artifact = artifact.parent_digest ~= "" and artifact.parent_digest or nil,
  }
end

-- storing --------------------------------------------------------------------------------------

local function texts(value, name)
  options.table(value, name)
  for i = 1, #value do options.text(value[i], name .. "[" .. i .. "]") end
  return kit.list(value)
end

local function digest(value, name)
  if type(value) == "table" then value = (value.id or value).content_hash end
  return options.text(value, name)
end

local KNOWN = {
  description = options.text, mime_type = options.text, tags = texts, custom = options.table,
  parent_artifact = digest, keep_versions = options.count(0),
}

-- The known names of `metadata` checked, and all others beside what is in `custom`.
local function read_metadata(metadata)
  if metadata == nil then return {custom = {}} end
  options.table(metadata, "metadata")
  local set, custom = {}, {}
  for name, value in kit.pairs(metadata) do
    if type(name) ~= "string" then
      kit.invalid("metadata", "must have names only, not the key " .. kit.tostring(name))
    end
    local check = KNOWN[name]
    if check then set[name] = check(value, "metadata." .. name) else custom[name] = value end
  end
  for name, value in next, set.custom or {} do
    if custom[name] == nil then custom[name] = value end
  end
  set.custom = custom
  return set
end

local function text_of(value, name)
  if value == nil then required(name) end
  return options.text(value, name)
end

local function check_size(size, field)
  local most = kit.limits.bytes - HEADER_BYTES
  if size > most then
    kit.refuse(
      "LIMIT_EXCEEDED", field,
      field .. " is " .. size .. " bytes; the limit of a script is " .. most .. " bytes.",
      {field = field, got = kit.tostring(size), limit = kit.tostring(most)}
    )
  end
end

local function put(session, artifact_type, name, content, metadata)
  local scope, tenant = scope_of(session)
  local set = read_metadata(metadata)
  local answer = call(SERVICE .. "PutArtifact", {
    content = content,
    header = {
      scope = scope, name = text_of(name, "name"), artifact_type = text_of(artifact_type, "type"),
      mime_type = set.mime_type, description = set.description, tags = set.tags,
      metadata = next(set.custom) ~= nil and set.custom or nil,
      parent_digest = set.parent_artifact, keep_versions = set.keep_versions,
    },
  }, tenant)
  return id_of(answer.artifact)
end

--| `Artifact.store(session, type, name, content, metadata)`
--- Adds a version of the name; its id, `{content_hash, session_id, sequence}`. The type is
--- `agent_output`, `tool_result`, `user_input`, `system_generated` or any other word. Known in
--- `metadata`: `description`, `mime_type`, `tags`, `parent_artifact` (an id or a digest),
--- `keep_versions`, `custom`; any other name joins `custom`. Content of a script is at most 2 027
--- 520 bytes.
-- Artifact.store(session, type, name, content, {description, mime_type, tags, custom, …}?) → id.
Artifact.store = kit.either_way(Artifact, function(session, artifact_type, name, content, metadata)
  check_size(#text_of(content, "content"), "content")
  return put(session, artifact_type, name, content, metadata)
end)

-- A range of a file of the tenant's, and how large the file is.
local function range_of(path, at)
  local answer = call("llmspell.v1.ToolService/ExecuteTool", {
    name = "file-operations", session_id = kit.session_id,
    arguments = {operation = "read", path = path, offset = at, length = FILE_RANGE_BYTES},
  })
  return answer.result.input, answer.result.file_size
end

--| `Artifact.store_file(session, path, type, {name, description, mime_type, tags, custom, …}?)`
--- Stores a file that `file-operations` reads; named as the path ends, where no name is given. →
--- id
-- Artifact.store_file(session, path, type, {name, description, …}?) → id. The file is one of those
-- that `file-operations` reads, and it is read as that tool reads; its name is what the path ends in.
Artifact.store_file = kit.either_way(Artifact, function(session, path, artifact_type, metadata)
  text_of(path, "path")
  text_of(artifact_type, "type")
  scope_of(session)
  local named = metadata
  if type(metadata) == "table" and rawget(metadata, "name") ~= nil then
    named = {}
    for key, value in kit.pairs(metadata) do if key ~= "name" then named[key] = value end end
  end
  read_metadata(named)
  local content, size = range_of(path, 0)
  check_size(size, "path")
  while #content < size do
    local piece, now = range_of(path, #content)
    if piece == "" or now ~= size then
      kit.invalid("path", "must not change while it is read")
    end
    content = content .. piece
  end
  local name = named ~= metadata and metadata.name or match(path, "([^/]+)/*$")
  return put(session, artifact_type, name, content, named)
end)

-- reading --------------------------------------------------------------------------------------

local RANGE = {offset = options.count(0), length = options.count(0)}

--| `Artifact.get(session, id, options)`
--- `{metadata, content}`; options `offset` and `length` for a part. An id may also be `{name}`,
--- the newest, or `{name, version}`.
-- Artifact.get(session, id, {offset, length}?) → {metadata, content}. Every range is of the very
-- bytes that the first was of, whatever is stored under the name meanwhile.
Artifact.get = kit.either_way(Artifact, function(session, id, range)
  local choice, tenant = choice_of(session, id)
  range = options.read(range, RANGE, "options", true)
  local at, left = range.offset or 0, range.length
  local pieces, artifact = {}, nil
  repeat
    local answer = call(SERVICE .. "FetchArtifact", {
      artifact = choice, offset = at,
      length = left and left > 0 and min(left, RANGE_BYTES) or RANGE_BYTES,
    }, tenant)
    artifact = answer.artifact
    choice = {scope = artifact.scope, digest = artifact.digest, sequence = artifact.sequence}
    local piece = left and sub(answer.content, 1, left) or answer.content
    pieces[#pieces + 1] = piece
    at, left = at + #piece, left and left - #piece
  until #piece == 0 or at >= artifact.size_bytes or left == 0
  return {metadata = described(artifact), content = concat(pieces)}
end)

-- A page; one that does not fit into a frame is asked for again with fewer entries.
local function page(args, tenant)
  local ok, answer = pcall(call, SERVICE .. "ListArtifacts", args, tenant)
  if ok then return answer end
  local too_long = kit.is_failure(answer) and rawget(answer, "reason") == "MESSAGE_TOO_LARGE"
  if not too_long or args.page_size == 1 then error(answer, 0) end
  args.page_size = args.page_size // 2
  return page(args, tenant)
end

local function collect(args, tenant, limit)
  local found = {}
  args.page_size = limit and min(limit, PAGE_SIZE) or PAGE_SIZE
  repeat
    local answer = page(args, tenant)
    for _, artifact in next, answer.artifacts do
      if limit and #found == limit then return found end
      found[#found + 1] = described(artifact)
    end
    args.page_token = answer.next_page_token
  until args.page_token == "" or limit and #found == limit
  return kit.list(found)
end

--| `Artifact.list(session)`
--- What is known of all, in the order of storing.
-- Artifact.list(session) → what is known of all, in the order of storing.
Artifact.list = kit.either_way(Artifact, function(session)
  local scope, tenant = scope_of(session)
  return collect({scope = scope}, tenant)
end)

local QUERY = {
  session_id = options.text, session = options.text, type = options.text,
  artifact_type = options.text, name_pattern = options.text, tags = texts,
  created_after = options.time, created_before = options.time, min_size = options.count(0),
  max_size = options.count(0), limit = options.count(1), newest_only = options.flag,
  newest_first = options.flag,
}

--| `Artifact.query{session_id, type, name_pattern, tags, created_after, created_before, min_size,
--| max_size, newest_only, newest_first, limit}`
--- Of those for which all of it holds. In a pattern `*` is any characters, `?` one.
-- Artifact.query{session_id, type, name_pattern, tags, created_after, created_before, min_size,
-- max_size, newest_only, newest_first, limit} → what is known of those for which all of it holds.
Artifact.query = kit.either_way(Artifact, function(given)
  local wanted = options.read(given, QUERY)
  local scope, tenant = scope_of(options.first(wanted, "session_id", "session"))
  return collect({
    scope = scope, artifact_type = options.first(wanted, "type", "artifact_type"),
    name_pattern = wanted.name_pattern, tags = wanted.tags,
    created_after = wanted.created_after, created_before = wanted.created_before,
    size_bytes_min = wanted.min_size, size_bytes_max = wanted.max_size,
    newest_only = wanted.newest_only, newest_first = wanted.newest_first,
  }, tenant, wanted.limit)
end)

--| `Artifact.delete(session, id)`
--- Removes one version; whether it was there.
-- Artifact.delete(session, id) → whether it was there.
Artifact.delete = kit.either_way(Artifact, function(session, id)
  local choice, tenant = choice_of(session, id)
  return call(SERVICE .. "DeleteArtifact", {artifact = choice}, tenant).deleted_count == 1
end)
