-- `State`'s schemas and migrations. A script names a schema where its tenant has several.

local kit = ...

local call, options, State = kit.call, kit.options, kit.env.State
local concat, error, next, pcall, rawget = table.concat, error, next, pcall, rawget
local floor, lower = math.floor, string.lower

local SERVICE = "llmspell.v1.MigrationService/"
local WAIT_S = 5

local KNOWN = {
  schema = options.text,
  dry_run = options.flag,
  backup = options.flag,
  validation = options.one_of({none = "none", basic = "basic", strict = "strict"}),
}

local function listed()
  local answer = call(SERVICE .. "ListSchemas", {page_size = 1000})
  return answer.schemas or {}
end

-- The schema of a name, or the only one there is; nil where there is none at all.
local function schema_of(name)
  if name ~= nil then
    options.text(name, "schema")
    return call(SERVICE .. "GetSchema", {name = name}).schema
  end
  local schemas = listed()
  if #schemas > 1 then
    local names = {}
    for _, schema in next, schemas do names[#names + 1] = schema.name end
    kit.invalid("schema", "must be one of " .. concat(names, ", "))
  end
  return schemas[1]
end

local function versions_of(schema)
  local versions = {}
  for _, each in next, schema and schema.versions or {} do versions[#versions + 1] = each.version end
  return versions
end

local function finished(migration)
  local errors = {}
  for _, each in next, migration.errors or {} do
    errors[#errors + 1] = {
      message = each.message, reason = each.reason, scope = each.scope, key = each.key,
      field = each.field, rule = each.rule,
    }
  end
  local status = lower(migration.status)
  local success = status == "completed"
  return {
    success = success,
    status = status,
    error = not success and (errors[1] and errors[1].message or "It was cancelled.") or nil,
    migration_id = migration.migration_id,
    backup_id = migration.backup_id,
    from_version = migration.from_version,
    to_version = migration.to_version,
    target_version = migration.to_version,
    items_migrated = success and migration.items_done or 0,
    duration_ms = floor((migration.end_time - migration.create_time) * 1000),
    warnings = kit.list(migration.warnings or {}),
    errors = kit.list(errors),
  }
end

local function run(schema, version, given)
  local migration = call(SERVICE .. "StartMigration", {
    schema = schema.name, to_version = version, dry_run = given.dry_run,
    validation = given.validation, skip_backup = given.backup == false,
  }).migration
  if migration.migration_id == nil or migration.migration_id == "" then
    return {
      success = true, status = "already_current", current_version = migration.to_version,
      target_version = version,
    }
  end
  while lower(migration.status) == "running" do
    migration = call(SERVICE .. "GetMigration", {
      migration_id = migration.migration_id, wait = WAIT_S,
    }).migration
  end
  return finished(migration)
end

--| `State.migrate(version, options)`
--- Brings a schema's items to a version and waits ([guide](docs/guide/migrations.md)): `{success,
--- status, from_version, to_version, items_migrated, duration_ms, warnings, errors}`. Options:
--- `schema`, `dry_run`, `validation`, `backup`.
-- State.migrate("x.y.z", {schema, dry_run, validation, backup}?) → a table. A wrong argument and
-- a missing permission are errors; that it cannot be done now is `success = false`.
State.migrate = kit.either_way(State, function(version, given)
  if version == nil then kit.required("version") end
  options.text(version, "version")
  given = options.read(given, KNOWN)
  local schema = schema_of(given.schema)
  if schema == nil then
    return {success = false, error = "There is no schema.", target_version = version}
  end
  local ok, answer = pcall(run, schema, version, given)
  if ok then return answer end
  local reason = kit.is_failure(answer) and rawget(answer, "reason")
  if reason == "SCHEMA_NOT_FOUND" or reason == "MIGRATION_RUNNING" or reason == "FIELD_INVALID" then
    return {
      success = false, error = rawget(answer, "message"), reason = reason,
      from_version = schema.current_version, target_version = version,
    }
  end
  error(answer, 0)
end)

--| `State.get_migration_status(schema)`
--- `{current_version, migration_available, total_schemas, latest_version, is_latest,
--- migration_targets}`
-- State.get_migration_status(schema?) → where a schema's items are, and where they can go.
State.get_migration_status = kit.either_way(State, function(name)
  local schema = schema_of(name)
  local versions, targets = versions_of(schema), {}
  local current, behind = schema and schema.current_version, false
  for _, version in next, versions do
    if behind then targets[#targets + 1] = version end
    behind = behind or version == current
  end
  return {
    schema = schema and schema.name,
    current_version = current,
    latest_version = versions[#versions],
    total_schemas = #versions,
    migration_available = #targets > 0,
    is_latest = #targets == 0,
    migration_targets = kit.list(targets),
  }
end)

--| `State.get_schema_versions(schema)`
--- A list of versions, the lowest first.
-- State.get_schema_versions(schema?) → its versions, the lowest first.
State.get_schema_versions = kit.either_way(State, function(name)
  return kit.list(versions_of(schema_of(name)))
end)
