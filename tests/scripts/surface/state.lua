-- Every function of State, on a real deployment.

local scope = "session:surface-state"
State.clear(scope)
State.save(scope, "a", {n = 1, list = {1, 2.5}})
assert(State.load(scope, "a").list[2] == 2.5 and State.load(scope, "absent") == nil)
State.set(scope, "b", "text")
assert(State.get(scope, "b") == "text" and State:get(scope, "b") == "text")
State.set("surface-global", 5)
assert(State.get("surface-global") == 5)
State.delete("surface-global")
assert(State.get("surface-global") == nil)
assert(table.concat(State.list_keys(scope), ",") == "a,b")
State.delete(scope, "b")
State.delete(scope, "b")
State.save(scope, "a", nil)
assert(#State.list_keys(scope) == 0)

-- Bare kinds, and a colon at the start of a key.
State.save("custom", ":demo:step", 3)
assert(State.load("custom", ":demo:step") == 3)
State.delete("custom", ":demo:step")

-- Values of workflows, agents and tools.
State.workflow_set("surface", "first", {done = true})
assert(State.workflow_get("surface", "first").done and State.workflow_list("surface")[1] == "first")
State.agent_set("surface", "k", 1)
assert(State.agent_get("surface", "k") == 1 and State.agent_list("surface")[1] == "k")
State.tool_set("surface", "k", 2)
assert(State.tool_get("surface", "k") == 2 and State.tool_list("surface")[1] == "k")

-- Counting, batches, copies.
State.delete("global", "surface-n")
assert(State.increment("global", "surface-n", 2) == 2 and State.increment("surface-n", 3) == 5)
local done = State.batch{{set = "x", value = 1, scope = scope}, {check = "absent", absent = true}}
assert(done.revision > 0 and State.load(scope, "x") == 1)
State.copy(scope, "x", "session:surface-copy", "y")
State.move("session:surface-copy", "y", scope, "z")
assert(State.load(scope, "z") == 1 and State.load("session:surface-copy", "y") == nil)
assert(State.copy_scope(scope, "session:surface-copy") == 2)
assert(State.move_scope("session:surface-copy", "session:surface-moved") == 2)
assert(State.clear("session:surface-moved") == 2)
local value, found_in = State.resolve("z", {session = "surface-state"})
assert(value == 1 and found_in == scope)

-- Schemas: there is none, and that is said.
local status = State.get_migration_status()
assert(status.total_schemas == 0 and not status.migration_available)
assert(#State.get_schema_versions() == 0)
local migrated = State.migrate("1.0.0")
assert(migrated.success == false and type(migrated.error) == "string")

-- Backups.
local backup = State.create_backup(false)
assert(backup.success and backup.id)
State.save(scope, "x", 99)
assert(State.validate_backup(backup.id).valid)
local ids = {}
for _, one in ipairs(State.list_backups()) do ids[one.id] = true end
assert(ids[backup.id] and State.get_storage_usage().backup_count > 0)
assert(State.restore_backup(backup.id, {dry_run = true}).success)
assert(State.load(scope, "x") == 99)
assert(type(State.cleanup_backups(true).deleted_count) == "number")

return "done"
