-- `State`'s backups: of all that the tenant has in state. What a script may not do is refused by
-- the service: making and reading backups is a writer's and a reader's, restoring an admin's.
-- A call that is refused raises; one that was made answers with a table whose `success` is true.

local kit = ...

local call, State = kit.call, kit.env.State
local next, type = next, type

local SERVICE = "llmspell.v1.BackupService/"

local function id_of(id)
  if id == nil then kit.required("id") end
  if type(id) == "table" then id = id.backup_id or id.id end
  if type(id) ~= "string" then kit.invalid("id", "must be the id of a backup") end
  return id
end

local function flag(name, value)
  if value ~= nil and type(value) ~= "boolean" then kit.invalid(name, "must be true or false") end
  return value or false
end

local function described(backup)
  return {
    id = backup.backup_id,
    backup_id = backup.backup_id,
    created_at = backup.create_time,
    revision = backup.revision or 0,
    entry_count = backup.record_count or 0,
    size_bytes = backup.stored_bytes or 0,
    written_bytes = backup.written_bytes or 0,
    incremental = not backup.full,
    encrypted = backup.encrypted or false,
    damaged = backup.damaged or false,
  }
end

--| `State.create_backup(incremental)`
--- A backup of the tenant ([guide](docs/guide/backups.md)): `{success, id, revision, entry_count,
--- size_bytes, written_bytes, …}`. `false` writes everything anew.
-- State.create_backup(incremental?) → {success, backup_id, …}; false writes everything anew.
State.create_backup = kit.either_way(State, function(incremental)
  local full = incremental ~= nil and not flag("incremental", incremental)
  local answer = described(call(SERVICE .. "CreateBackup", {full = full}).backup)
  answer.success = true
  return answer
end)

--| `State.list_backups()`
--- Backups, the newest first, each as above.
-- State.list_backups() → all backups of the tenant, the newest first.
State.list_backups = kit.either_way(State, function()
  local backups, token = {}, nil
  repeat
    local answer = call(SERVICE .. "ListBackups", {page_token = token})
    for _, backup in next, answer.backups or {} do backups[#backups + 1] = described(backup) end
    token = answer.next_page_token
  until token == nil or token == ""
  return backups
end)

--| `State.restore_backup(id, options)`
--- Goes back to one: `{success, added, changed, removed, unchanged, safety_backup_id}`. Options:
--- `dry_run`, `backup_current` (default `true`).
-- State.restore_backup(id, {dry_run, backup_current}?) → {success, added, changed, removed, …}.
State.restore_backup = kit.either_way(State, function(id, options)
  if options ~= nil and type(options) ~= "table" then
    kit.invalid("options", "must be a table")
  end
  options = options or {}
  local keep = options.backup_current
  local answer = call(SERVICE .. "RestoreBackup", {
    backup_id = id_of(id),
    dry_run = flag("dry_run", options.dry_run),
    skip_safety_backup = keep ~= nil and not flag("backup_current", keep),
  })
  local result = {
    success = true,
    backup_id = id_of(id),
    dry_run = options.dry_run or false,
    safety_backup_id = answer.safety_backup_id ~= "" and answer.safety_backup_id or nil,
    added = 0, changed = 0, removed = 0, unchanged = 0,
  }
  for _, delta in next, answer.deltas or {} do
    result.added = result.added + (delta.added_count or 0)
    result.changed = result.changed + (delta.changed_count or 0)
    result.removed = result.removed + (delta.removed_count or 0)
    result.unchanged = result.unchanged + (delta.unchanged_count or 0)
  end
  return result
end)

--| `State.validate_backup(id)`
--- Reads all of one: `{valid, errors, size_bytes}`.
-- State.validate_backup(id) → {success, valid, errors}; errors name the damaged files.
State.validate_backup = kit.either_way(State, function(id)
  local answer = call(SERVICE .. "VerifyBackup", {backup_id = id_of(id)})
  local errors = {}
  for _, damage in next, answer.damages or {} do
    errors[#errors + 1] = damage.file .. " " .. damage.why
  end
  return {
    success = true,
    backup_id = id_of(id),
    valid = answer.valid or false,
    errors = errors,
    size_bytes = answer.stored_bytes or 0,
  }
end)

--| `State.get_storage_usage()`
--- What backups take: `{backup_count, file_count, total_bytes, plain_bytes}`.
-- State.get_storage_usage() → what the tenant's backups take on disk.
State.get_storage_usage = kit.either_way(State, function()
  local answer = call(SERVICE .. "GetBackupUsage", {})
  return {
    success = true,
    backup_count = answer.backup_count or 0,
    file_count = answer.file_count or 0,
    total_bytes = answer.stored_bytes or 0,
    plain_bytes = answer.plain_bytes or 0,
  }
end)

--| `State.cleanup_backups(dry_run)`
--- Removes those kept no longer: `{deleted, deleted_count, freed_bytes}`.
-- State.cleanup_backups(dry_run?) → the ids of backups that are kept no longer, and their bytes.
State.cleanup_backups = kit.either_way(State, function(dry_run)
  local answer = call(SERVICE .. "CleanUpBackups", {dry_run = flag("dry_run", dry_run)})
  local ids = answer.backup_ids or {}
  return {
    success = true,
    dry_run = dry_run or false,
    deleted = ids,
    deleted_count = #ids,
    freed_bytes = answer.freed_bytes or 0,
  }
end)
