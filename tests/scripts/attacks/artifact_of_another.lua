-- expects: held
-- Who knows the digest of another tenant's bytes has nothing of them.
for _, id in ipairs{
  ARGS.artifact, {content_hash = ARGS.artifact, sequence = 1, session_id = "global"},
  {content_hash = ARGS.artifact, sequence = 1, session_id = "tenant:victim"},
} do
  for _, session in ipairs{"", "global", "tenant:victim", ARGS.session} do
    local ok, artifact = pcall(Artifact.get, session, id)
    assert(not ok or artifact == nil)
    local ok, deleted = pcall(Artifact.delete, session, id)
    assert(not ok or not deleted)
  end
end
assert(not pcall(Artifact.store_file, "", "/etc/passwd", "note"))
assert(not pcall(Artifact.store_file, "", "../../etc/passwd", "note"))
return "held"
