-- Every function of Session, on a real deployment.

local id = Session.create{name = "surface", description = "d", tags = {"t"}}
local built = Session.builder():name("built"):description("b"):tag("one"):tags({"two"}):build()
local session = Session.get(id)
assert(session.id == id and session.name == "surface" and session.status == "active" and session.tags[1] == "t")
assert(Session.get(built).name == "built")
local found = false
for _, one in ipairs(Session.list{status = "active", limit = 100}) do found = found or one.id == id end
assert(found)

-- The run's session.
local before = Session.get_current()
Session.set_current(id)
assert(Session.get_current() == id)
Session.set_current(before)

-- Its life.
State.save("session:" .. id, "k", 1)
Session.save(id)
State.save("session:" .. id, "k", 2)
assert(Session.load(id) == id)
local checkpoint = Session.checkpoint(id, "point")
State.save("session:" .. id, "k", 3)
assert(#Session.checkpoints(id) >= 2)
Session.restore(id, checkpoint)
assert(State.load("session:" .. id, "k") == 2)
Session.suspend(id)
assert(Session.get(id).status == "suspended")
Session.resume(id)
Session.complete(id)
assert(Session.get(id).status == "completed")
Session.archive(id)
Session.fail(built, "on purpose")
assert(Session.get(built).end_reason == "on purpose")
assert(not pcall(Session.resume, id))

-- What is kept of its calls: nothing yet, since nothing ran in it.
assert(Session.can_replay(id) == false and #Session.journal(id) == 0)
assert(type(Session.get_replay_metadata(id)) == "table")
assert(type(Session.list_replayable()) == "table" and #Session.runs(id) == 0)
local ok, replayed = pcall(Session.replay, id)
assert(ok and type(replayed) == "table" or replayed.reason ~= nil)

assert(Session.delete(id) and Session.delete(built) and not Session.delete(id))
assert(select(2, pcall(Session.get, id)).reason == "SESSION_NOT_FOUND")

return "done"
