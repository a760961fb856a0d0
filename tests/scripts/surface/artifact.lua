-- Every function of Artifact, on a real deployment.

local session = Session.create{name = "surface-artifacts"}
local id = Artifact.store(session, "tool_result", "report.txt", "one", {tags = {"t"}, mime_type = "text/plain"})
assert(#id.content_hash == 64 and id.session_id == session and id.sequence)
local got = Artifact.get(session, id)
assert(got.content == "one" and got.metadata.name == "report.txt" and got.metadata.artifact_type == "tool_result")
Artifact.store(session, "tool_result", "report.txt", "two")
assert(Artifact.get(session, {name = "report.txt"}).content == "two")
assert(Artifact.get(session, {name = "report.txt", version = 1}).content == "one")
assert(#Artifact.list(session) == 2)
local found = Artifact.query{session_id = session, name_pattern = "report*", newest_only = true}
assert(#found == 1 and found[1].version == 2)
assert(Artifact.delete(session, id) and not Artifact.delete(session, id))
-- Only a file that the tenant has can be stored; a path that leads out is refused.
assert(not pcall(Artifact.store_file, session, "../secret", "user_input"))
Session.delete(session)

return "done"
