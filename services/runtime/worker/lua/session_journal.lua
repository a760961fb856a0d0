-- `Session`: the runs and calls that were made in one, and the runs made again. Scripts read a page at
-- a time, since they take no streams.

local kit = ...

local call, options, required = kit.call, kit.options, kit.required
local json = kit.json
local next, tonumber = next, tonumber
local lower, match, max, min = string.lower, string.match, math.max, math.min
local sort, tointeger = table.sort, math.tointeger
local Session = kit.env.Session

local SERVICE = "llmspell.v1.JournalService/"
local RUNS = "llmspell.v1.RunService/"
local PAGE_SIZE = 1000

local function id_of(id)
  if id == nil then required("session_id") end
  return options.text(id, "session_id")
end

local function journal(id)
  return call(SERVICE .. "GetJournal", {session_id = id_of(id)}).journal
end

-- Every run of a session, the newest first, or of all where there is no id; `each` ends it with true.
local function each_run(id, size, each)
  local token
  repeat
    local answer = call(RUNS .. "ListRuns", {session_id = id, page_size = size, page_token = token})
    for _, run in next, answer.runs or {} do
      if each(run) then return end
    end
    token = answer.next_page_token
  until token == nil or token == ""
end

--| `Session.can_replay(id)`
--- Whether runs or calls are kept of it.
-- Session.can_replay(id) → whether a run in it, or a call, is kept.
Session.can_replay = kit.either_way(Session, function(id)
  local known = journal(id)
  if known.can_replay then return true end
  local found = false
  each_run(known.session_id, 1, function()
    found = true
    return true
  end)
  return found
end)

--| `Session.runs(id)`
--- Runs in it of which a journal is kept, the newest first: `{id, name, status, started_at,
--- ended_at, call_count, output_bytes, size_bytes, reason, message}`.
-- Session.runs(id) → runs of which a journal is kept, the newest first: [{id, name, status, started_at,
-- ended_at, call_count, output_bytes, size_bytes, reason, message}].
Session.runs = kit.either_way(Session, function(id)
  local runs = {}
  each_run(id_of(id), PAGE_SIZE, function(run)
    local begin, stop = run.begin, run["end"] or {}
    runs[#runs + 1] = {
      id = run.run_id, name = begin.name, status = lower(run.status), started_at = begin.start_time,
      ended_at = stop.end_time, call_count = stop.call_count, output_bytes = stop.output_bytes,
      size_bytes = run.journal_bytes, reason = stop.reason ~= "" and stop.reason or nil,
      message = stop.message ~= "" and stop.message or nil,
    }
  end)
  return runs
end)

--| `Session.get_replay_metadata(id)`
--- `{session_id, correlation_id, total_runs, total_hooks, total_calls, size_bytes,
--- first_hook_timestamp, last_hook_timestamp, total_duration, can_replay}`; what is called a hook
--- is a call.
-- Session.get_replay_metadata(id) → {session_id, correlation_id, total_runs, total_hooks, total_calls,
-- size_bytes, first_hook_timestamp, last_hook_timestamp, total_duration, can_replay}; what scripts of
-- old call hooks are the calls.
Session.get_replay_metadata = kit.either_way(Session, function(id)
  local known = journal(id)
  local told = {
    session_id = known.session_id,
    correlation_id = known.correlation_id ~= "" and known.correlation_id or nil,
    total_runs = 0, total_calls = known.call_count, size_bytes = known.size_bytes,
    first_hook_timestamp = known.first_time, last_hook_timestamp = known.last_time,
    total_duration = known.total_duration or 0.0, can_replay = known.can_replay,
  }
  each_run(known.session_id, PAGE_SIZE, function(run)
    local first, stop = run.begin.start_time, run["end"] or {}
    local last = stop.end_time or run.last_time or first
    told.correlation_id = told.correlation_id or run.run_id
    told.total_runs = told.total_runs + 1
    told.total_calls = told.total_calls + (stop.call_count or 0)
    told.size_bytes = told.size_bytes + run.journal_bytes
    told.first_hook_timestamp = min(told.first_hook_timestamp or first, first)
    told.last_hook_timestamp = max(told.last_hook_timestamp or last, last)
    told.total_duration = told.total_duration + (last - first)
    told.can_replay = true
  end)
  told.total_hooks = told.total_calls
  return told
end)

--| `Session.list_replayable()`
--- Ids of the sessions of which calls are kept.
-- Session.list_replayable() → ids of sessions of which calls or runs are kept, in order.
Session.list_replayable = kit.either_way(Session, function()
  local ids, known, token = {}, {}, nil
  local function add(id)
    if id ~= "" and not known[id] then
      known[id] = true
      ids[#ids + 1] = id
    end
  end
  repeat
    local answer = call(SERVICE .. "ListJournals", {page_size = PAGE_SIZE, page_token = token})
    for _, each in next, answer.journals or {} do
      if each.can_replay then add(each.session_id) end
    end
    token = answer.next_page_token
  until token == nil or token == ""
  each_run(nil, PAGE_SIZE, function(run) add(run.begin.session_id) end)
  sort(ids)
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

--| `Session.journal(id, {first, limit, content})`
--- The calls that were made in it, in order: `{sequence, method, ok, reason, message, started_at,
--- ended_at, size_bytes, correlation_id}`; with `content = true` also `request` and `answer`, as
--- bytes.
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

-- "3.item.value" is the part item.value of call 3's answer, "GetState.item" of each such call's.
local function modification(change, place)
  options.table(change, place)
  local path = options.text(change.path, place .. ".path")
  local which, part = match(path, "^([^.]+)%.?(.*)$")
  if not which then kit.invalid(place .. ".path", "must begin with a call's number or its method") end
  local ok, text, cycle = json.encode(change.value, place .. ".value")
  if not ok then kit.unfit(place .. ".value", text, cycle) end
  local number = tointeger(tonumber(which))
  return {
    call_number = number, method = not number and which or nil, path = part, json = text,
  }
end

local HOW = {
  mode = options.text, compare_results = options.flag, timeout_seconds = options.seconds,
  stop_on_error = options.flag, metadata = options.table, modifications = options.table,
}

local function report_of(report)
  local difference = report.difference
  return {
    run_id = report.run_id, identical = report.identical, call_count = report.call_count,
    output_bytes = report.output_bytes, elapsed = report.elapsed,
    reason = report.reason ~= "" and report.reason or nil,
    message = report.message ~= "" and report.message or nil,
    answered_count = report.answered_count, asked_count = report.asked_count,
    refused_count = report.refused_count,
    difference = difference and {
      what = difference.what, recorded = difference.recorded, replayed = difference.replayed,
      call_number = difference.what == "call" and difference.call_number or nil,
      output_offset = difference.what == "output" and difference.output_offset or nil,
    },
  }
end

--| `Session.replay(id, options)`
--- All its ended runs made again, the oldest first; nothing is written. `mode` (`exact`,
--- `simulate`, `modified`), `compare_results` (true), `timeout_seconds`, `stop_on_error`,
--- `modifications`, or what `Replay.create_config` makes. Gives `{session_id, start_time,
--- total_duration, runs_replayed, hooks_replayed, successful_replays, failed_replays, metadata,
--- runs}`, each run `{run_id, identical, difference, call_count, output_bytes, elapsed, …}`
--- ([guide](docs/guide/replay.md)).
-- Session.replay(id, {mode = "exact", compare_results = true, timeout_seconds, stop_on_error = false,
-- modifications, metadata}?) → all ended runs of the session made again, the oldest first, in mode exact,
-- simulate or modified: {session_id, start_time, total_duration, runs_replayed, hooks_replayed (calls),
-- successful_replays, failed_replays, metadata, runs = [{run_id, identical, difference, …}]}. Nothing is
-- written. A configuration of Replay.create_config, or a mode, does as well.
Session.replay = kit.either_way(Session, function(id, how)
  how = options.read(kit.replay_options(how), HOW, "options", true)
  local changes = {}
  for i = 1, #(how.modifications or {}) do
    changes[i] = modification(how.modifications[i], "modifications[" .. i .. "]")
  end
  local start = kit.now()
  local reports = call(RUNS .. "ReplaySession", {
    session_id = id_of(id), mode = how.mode, modifications = #changes > 0 and changes or nil,
    stop_on_error = how.stop_on_error, timeout = how.timeout_seconds,
  }).reports or {}
  local told = {
    session_id = id, start_time = start, total_duration = 0.0, runs_replayed = #reports,
    hooks_replayed = 0, successful_replays = 0, failed_replays = 0, metadata = how.metadata or {},
    runs = kit.list({}),
  }
  for i, report in next, reports do
    local is_same = how.compare_results == false or report.difference == nil
    local name = is_same and "successful_replays" or "failed_replays"
    told[name] = told[name] + 1
    told.hooks_replayed = told.hooks_replayed + report.call_count
    told.total_duration = told.total_duration + (report.elapsed or 0.0)
    told.correlation_id = told.correlation_id or report.run_id
    told.runs[i] = report_of(report)
  end
  return told
end)
