-- `Session`: the calls that were made in one, and whether they could be made again. Scripts read a
-- page at a time, since they take no streams.

local kit = ...

local call, options, required = kit.call, kit.options, kit.required
local next = next
local Session = kit.env.Session

local SERVICE = "llmspell.v1.JournalService/"
local PAGE_SIZE = 1000

local function id_of(id)
  if id == nil then required("session_id") end
  return options.text(id, "session_id")
end

local function journal(id)
  return call(SERVICE .. "GetJournal", {session_id = id_of(id)}).journal
end

-- Session.can_replay(id) → whether calls are kept of it.
Session.can_replay = kit.either_way(Session, function(id) return journal(id).can_replay end)

-- Session.get_replay_metadata(id) → {session_id, correlation_id, total_hooks, total_calls, size_bytes,
-- first_hook_timestamp, last_hook_timestamp, total_duration, can_replay}; what scripts of old call
-- hooks are the calls.
Session.get_replay_metadata = kit.either_way(Session, function(id)
  local known = journal(id)
  return {
    session_id = known.session_id,
    correlation_id = known.correlation_id ~= "" and known.correlation_id or nil,
    total_hooks = known.call_count, total_calls = known.call_count, size_bytes = known.size_bytes,
    first_hook_timestamp = known.first_time, last_hook_timestamp = known.last_time,
    total_duration = known.total_duration or 0.0, can_replay = known.can_replay,
  }
end)

-- Session.list_replayable() → ids of sessions of which calls are kept, in order.
Session.list_replayable = kit.either_way(Session, function()
  local ids, token = {}, nil
  repeat
    local answer = call(SERVICE .. "ListJournals", {page_size = PAGE_SIZE, page_token = token})
    for _, each in next, answer.journals or {} do
      if each.can_replay then ids[#ids + 1] = each.session_id end
    end
    token = answer.next_page_token
  until token == nil or token == ""
  return ids
end)

local KNOWN = {first = options.count(1), limit = options.count(1), content = options.flag}

local function told(entry, content)
  local failure = entry.failure
  return {
    sequence = entry.sequence, method = entry.method, started_at = entry.start_time,
    ended_at = entry.end_time, size_bytes = entry.size_bytes, ok = failure == nil,
    correlation_id = entry.correlation_id ~= "" and entry.correlation_id or nil,
    reason = failure and failure.reason or nil, message = failure and failure.message or nil,
    request = content and entry.request or nil, answer = content and entry.answer or nil,
  }
end

-- Session.journal(id, {first = 1, limit, content = false}?) → the calls of a session in order:
-- [{sequence, method, ok, reason, message, started_at, ended_at, size_bytes, correlation_id}], and with
-- content also request and answer, as bytes.
Session.journal = kit.either_way(Session, function(id, how)
  how = options.read(how, KNOWN, "options", true)
  local found, token = {}, nil
  repeat
    local left = how.limit and how.limit - #found or PAGE_SIZE
    local answer = call(SERVICE .. "ListJournalEntries", {
      session_id = id_of(id), first_sequence = how.first, without_content = not how.content,
      page_size = left < PAGE_SIZE and left or PAGE_SIZE, page_token = token,
    })
    for _, entry in next, answer.entries or {} do found[#found + 1] = told(entry, how.content) end
    token = answer.next_page_token
  until token == nil or token == "" or #found == how.limit
  return found
end)

-- Making the calls again is the runtime's, which does not do it yet.
Session.replay = kit.either_way(Session, function()
  kit.not_offered(
    "Session.replay: calls are kept and can be read (Session.journal), but not made again yet."
  )
end)
