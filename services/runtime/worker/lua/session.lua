-- `Session`: lives around the items of a scope. What is stored in scope "session", id is there for
-- whoever resumes the session later; saving adds a checkpoint to go back to.

local kit = ...

local call, options, required = kit.call, kit.options, kit.required
local find, lower = string.find, string.lower
local next, type = next, type

local SERVICE = "llmspell.v1.SessionService/"
local PAGE_SIZE = 1000

local Session = {}
kit.env.Session = Session

local function id_of(id, field)
  if id == nil then required(field or "session_id") end
  if type(id) ~= "string" then
    kit.invalid(field or "session_id", "must be text, not a " .. type(id))
  end
  return id
end

local function seconds(value, name)
  if type(value) ~= "number" or not (value >= 0) then
    kit.invalid(name, "must be a number of seconds of at least 0")
  end
  return value
end

local function texts(value, name)
  options.table(value, name)
  for i = 1, #value do options.text(value[i], name .. "[" .. i .. "]") end
  return kit.list(value)
end

local BEGIN = {
  id = options.text, session_id = options.text, name = options.text, description = options.text,
  tags = texts, parent = options.text, parent_session_id = options.text, metadata = options.table,
  timeout = seconds, retention = seconds, auto_save = seconds,
}

-- The session as scripts know it; times are seconds since 1970.
local function told(session)
  return {
    id = session.session_id, name = session.name, description = session.description,
    tags = session.tags, status = lower(session.status), created_at = session.create_time,
    updated_at = session.update_time, ended_at = session.end_time, expires_at = session.expire_time,
    saved_at = session.save_time, end_reason = session.end_reason ~= "" and session.end_reason or nil,
    parent_session_id = session.parent ~= "" and session.parent or nil,
    custom_metadata = session.metadata, checkpoint_count = session.checkpoint_count,
  }
end

local function get(id)
  return call(SERVICE .. "GetSession", {session_id = id_of(id)}).session
end

local function create(given)
  if type(given) == "string" then given = {name = given} end
  local wanted = options.read(given, BEGIN)
  local answer = call(SERVICE .. "CreateSession", {
    session_id = options.first(wanted, "id", "session_id"), name = wanted.name,
    description = wanted.description, tags = wanted.tags,
    parent = options.first(wanted, "parent", "parent_session_id"), metadata = wanted.metadata,
    timeout = wanted.timeout, retention = wanted.retention, auto_save = wanted.auto_save,
  })
  return answer.session.session_id
end

--| `Session.create{name, description, tags, …}`
--- Begins one; its id. Also `id`, `parent`, `metadata`, `timeout`, `retention`, `auto_save`.
-- Session.create{name, description, tags, id, parent, metadata, timeout, retention, auto_save} → id.
Session.create = kit.either_way(Session, create)

--| `Session.builder()`
--- The same step by step: `:name(s):description(s):tag(s):tags(list):…:build()`.
-- Session.builder():name(s):description(s):tag(s):tags(list):…:build() → id.
Session.builder = kit.either_way(Session, function()
  local builder, wanted = {}, {}
  for name, check in next, BEGIN do
    builder[name] = function(self, value)
      wanted[name] = check(value, name)
      return self
    end
  end
  function builder:tag(tag)
    local tags = wanted.tags or {}
    tags[#tags + 1] = options.text(tag, "tag")
    wanted.tags = kit.list(tags)
    return self
  end
  function builder:build() return create(wanted) end
  return builder
end)

--| `Session.get(id)`
--- `{id, name, description, tags, status, created_at, updated_at, ended_at, expires_at, saved_at,
--- end_reason, parent_session_id, custom_metadata, checkpoint_count}`.
-- Session.get(id) → {id, name, description, tags, status, created_at, updated_at, …}.
Session.get = kit.either_way(Session, function(id) return told(get(id)) end)

local function statuses(value, name)
  if type(value) == "string" then return kit.list({value}) end
  return texts(value, name)
end

local WANTED = {
  status = statuses, tags = texts, name = options.text, name_contains = options.text,
  parent = options.text, created_after = options.time, created_before = options.time,
  limit = options.count(1),
}

--| `Session.list{status, tags, name, parent, created_after, created_before, limit}`
--- Those for which all of it holds, the newest first.
-- Session.list{status, tags, name, parent, created_after, created_before, limit} → the newest first.
Session.list = kit.either_way(Session, function(given)
  local wanted = options.read(given, WANTED)
  local found, token = {}, nil
  repeat
    local answer = call(SERVICE .. "ListSessions", {
      statuses = wanted.status, tags = wanted.tags,
      name_contains = options.first(wanted, "name", "name_contains"), parent = wanted.parent,
      created_after = wanted.created_after, created_before = wanted.created_before,
      page_size = wanted.limit and wanted.limit < PAGE_SIZE and wanted.limit or PAGE_SIZE,
      page_token = token,
    })
    for _, session in next, answer.sessions or {} do
      if wanted.limit and #found == wanted.limit then return found end
      found[#found + 1] = told(session)
    end
    token = answer.next_page_token
  until token == nil or token == ""
  return found
end)

local function move(method)
  return kit.either_way(Session, function(id)
    call(SERVICE .. method, {session_id = id_of(id)})
    return true
  end)
end

--| `Session.save(id)`
--- Takes the checkpoint `autosave`, in place of the one before.
-- Session.save(id), suspend(id), resume(id), complete(id), archive(id) → true.
Session.save = move("SaveSession")
--| `Session.suspend(id)`, `Session.resume(id)`, `Session.complete(id)`, `Session.archive(id)`
--- Its life.
Session.suspend = move("SuspendSession")
Session.resume = move("ResumeSession")
Session.complete = move("CompleteSession")
Session.archive = move("ArchiveSession")

--| `Session.fail(id, reason)`
--- Ends it badly.
-- Session.fail(id, reason?) → true.
Session.fail = kit.either_way(Session, function(id, reason)
  if reason ~= nil then options.text(reason, "reason") end
  call(SERVICE .. "FailSession", {session_id = id_of(id), reason = reason})
  return true
end)

--| `Session.load(id)`
--- Goes on with it where it was left, and gives its id; a suspended one is resumed.
-- Session.load(id) → id: go on with it where it was left; a suspended one is resumed.
Session.load = kit.either_way(Session, function(id)
  local session = get(id)
  if session.status ~= "ACTIVE" then
    call(SERVICE .. "ResumeSession", {session_id = session.session_id})
  end
  return session.session_id
end)

--| `Session.delete(id)`
--- Removes it with all that it has; whether it was there.
-- Session.delete(id) → whether it was there.
Session.delete = kit.either_way(Session, function(id)
  local answer = call(SERVICE .. "DeleteSession", {session_id = id_of(id)})
  if kit.session_id == id then kit.session_id = nil end
  return answer.deleted_count == 1
end)

--| `Session.checkpoint(id, name)`
--- Keeps its items and artifacts as they are now; the checkpoint's id.
-- Session.checkpoint(id, name?) → the checkpoint's id.
Session.checkpoint = kit.either_way(Session, function(id, name)
  if name ~= nil then options.text(name, "name") end
  local answer = call(SERVICE .. "CreateCheckpoint", {session_id = id_of(id), name = name})
  return answer.checkpoint.checkpoint_id
end)

--| `Session.checkpoints(id)`
--- `{id, name, created_at, item_count, size_bytes, artifact_count}` of each, the newest first.
-- Session.checkpoints(id) → [{id, name, created_at, item_count, size_bytes, artifact_count}], the
-- newest first.
Session.checkpoints = kit.either_way(Session, function(id)
  local answer, found = call(SERVICE .. "ListCheckpoints", {session_id = id_of(id)}), {}
  for i, each in next, answer.checkpoints or {} do
    found[i] = {
      id = each.checkpoint_id, name = each.name, created_at = each.create_time,
      item_count = each.item_count, size_bytes = each.size_bytes,
      artifact_count = each.artifact_count,
    }
  end
  return found
end)

--| `Session.restore(id, checkpoint)`
--- Puts exactly those items and artifacts back; how many items and how many artifacts changed.
--- Without a checkpoint: what was last saved.
-- Session.restore(id, checkpoint_id?) → how many items and how many artifacts changed; without one:
-- what was last saved.
Session.restore = kit.either_way(Session, function(id, checkpoint_id)
  if checkpoint_id == nil then checkpoint_id = "autosave" end
  local answer = call(SERVICE .. "RestoreCheckpoint", {
    session_id = id_of(id), checkpoint_id = id_of(checkpoint_id, "checkpoint_id"),
  })
  return answer.changed_count, answer.changed_artifact_count
end)

--| `Session.get_current()`, `Session.set_current(id)`
--- The run's session, or `nil`; what `--session` named, until set.
-- Session.get_current() → id or nil; it is what the run was started with, or what was set.
Session.get_current = kit.either_way(Session, function() return kit.session_id end)

-- Session.set_current(id or nil); the session must be there and not have ended.
Session.set_current = kit.either_way(Session, function(id)
  if id == nil then
    kit.session_id = nil
    return
  end
  local session = get(id)
  if not find("ACTIVE SUSPENDED", session.status, 1, true) then
    kit.refuse(
      "SESSION_ENDED", "session_id", "Session " .. id .. " is " .. lower(session.status) .. ".",
      {session_id = id, status = lower(session.status)}
    )
  end
  kit.session_id = session.session_id
end)
