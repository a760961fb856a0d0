"""Artifacts of scripts, through the four processes: whole, in ranges, and of one tenant only."""

import os

import pytest
from llmspell import Client

SCRIPT = """
local s = "lua-artifacts"
local bytes = ("\\0\\xFFab"):rep(450 * 1024)                       -- 1.8 MB, which takes two ranges
local id = Artifact.store(s, "tool_result", "plan.bin", bytes, {
  description = "d", mime_type = "x/y", tags = {"a", "b"}, author = "anna", custom = {n = 1},
})
assert(id.session_id == s and id.sequence == 1 and #id.content_hash == 64)
local second = Artifact:store(s, "note", "plan.bin", "two", {parent_artifact = id})
assert(second.sequence == 2)

local got = Artifact.get(s, id)
assert(got.content == bytes)
local known = got.metadata
assert(known.name == "plan.bin" and known.version == 1 and known.artifact_type == "tool_result")
assert(known.mime_type == "x/y" and known.description == "d" and known.tags[2] == "b")
assert(known.custom.author == "anna" and known.custom.n == 1 and known.parent_artifact == nil)
assert(known.size == #bytes and known.original_size == #bytes and known.is_compressed)
assert(known.created_at > 1.7e9 and known.created_by ~= "")
assert(Artifact:get(s, known).content == bytes)
assert(Artifact.get(s, {name = "plan.bin"}).content == "two")
assert(Artifact.get(s, {name = "plan.bin", version = 1}).metadata.size == #bytes)
assert(Artifact.get("session:" .. s, second).metadata.parent_artifact == id.content_hash)
assert(Artifact.get("", id, {offset = 2, length = 3}).content == "ab\\0")
assert(Artifact.get(s, id, {offset = 1048575, length = 1048577}).content == bytes:sub(1048576))
assert(Artifact.get(s, id, {length = 0}).content == "")
assert(Artifact.get(nil, Artifact.store(s, "note", "empty", "")).content == "")

for i = 1, 205 do Artifact.store(s, "many", "m" .. i, "x", {tags = {"t" .. i % 2}}) end
assert(#Artifact.list(s) == 208 and Artifact:list(s)[208].name == "m205")
assert(#Artifact.query{session_id = s, type = "many", limit = 150} == 150)
assert(#Artifact.query{session_id = s, name_pattern = "m?", tags = {"t1"}} == 5)
assert(#Artifact.query{session_id = s, min_size = 2, max_size = 3} == 1)
assert(#Artifact.query{session_id = s, created_after = os.time() + 60} == 0)
assert(#Artifact.query{session_id = s, created_before = os.time() + 60, limit = 1} == 1)
assert(Artifact.query{session_id = s, newest_first = true, limit = 1}[1].name == "m205")

assert(#Artifact.list() == 0)
Artifact.store("", "note", "mine", "of the run")
assert(Artifact.get("global", {name = "mine"}).metadata.id.session_id == "global")
Session.set_current(Session.create{name = "n"})
assert(#Artifact.list("") == 0)
local own = Artifact.store(nil, "note", "mine", "of the session")
assert(own.session_id == Session.get_current() and #Artifact.query{} == 1)

assert(Artifact.delete(s, id) and not Artifact.delete(s, id))
return "done"
"""

REFUSED = {
    "Artifact.store_file('', '/etc/passwd', 'note')": "PATH_REFUSED",
    "Artifact.store_file('', '../x', 'note')": "PATH_REFUSED",
    "Artifact.store_file('', 'absent', 'note')": "FILE_NOT_FOUND",
    "Artifact.store_file('', 'absent')": "FIELD_REQUIRED",
    "Artifact.store_file('')": "FIELD_REQUIRED",
    "Artifact.store_file('', 'x', 'note', {tags = 'a'})": "FIELD_INVALID",
    "Artifact.store('', 'note', 'n', ('x'):rep(2027521))": "LIMIT_EXCEEDED",
    "Artifact.store('', 'note', 'n', nil)": "FIELD_REQUIRED",
    "Artifact.store('', 'note', nil, 'x')": "FIELD_REQUIRED",
    "Artifact.store('', nil, 'n', 'x')": "FIELD_REQUIRED",
    "Artifact.store('', 'note', 'n', 5)": "FIELD_INVALID",
    "Artifact.store('', 'note', 'n', 'x', {tags = 'a'})": "FIELD_INVALID",
    "Artifact.store('', 'note', 'n', 'x', {'a'})": "FIELD_INVALID",
    "Artifact.store('', 'note', 'n', 'x', {f = print})": "FIELD_INVALID",
    "Artifact.store('a b', 'note', 'n', 'x')": "SCOPE_INVALID",
    "Artifact.store(5, 'note', 'n', 'x')": "FIELD_INVALID",
    "Artifact.get('', {name = 'absent'})": "ARTIFACT_NOT_FOUND",
    "Artifact.get('')": "FIELD_REQUIRED",
    "Artifact.get('', {})": "FIELD_REQUIRED",
    "Artifact.get('a', {session_id = 'b', sequence = 1})": "FIELD_INVALID",
    "Artifact.get('', {name = 'n'}, {ofset = 1})": "FIELD_INVALID",
    "Artifact.delete('', {name = 'n'})": "FIELD_REQUIRED",
    "Artifact.query{name_patern = 'x'}": "FIELD_INVALID",
    "Artifact.list('tenant:acme')": "PERMISSION_DENIED",
}


@pytest.fixture
def run(deployment):
    """Run a script as a tenant; its result."""

    def run(source, tenant):
        with Client(deployment.address, deployment.keys[deployment.tenant(tenant)]) as client:
            *_, result = client.run(source)
            return result.value

    return run


def test_scripts_have_artifacts(run):
    """A script's own asserts hold: contents, ranges, queries, the current session, both styles."""
    assert run(SCRIPT, "lua-artifacts") == "done"


def test_the_largest_content_of_a_script(run):
    """The very limit is stored, with metadata; it comes back whole."""
    source = """
      local text = ("x"):rep(2027520)
      local id = Artifact.store("large", "note", "n", text, {pad = ("y"):rep(15000)})
      return Artifact.get("large", id).content == text
    """
    assert run(source, "lua-artifacts") is True


STORE_FILE = """
local function write(path, text, how)
  local done = Tool.execute("file-operations", {
    operation = how or "write", path = path, input = text,
  })
  assert(done.success)
end
write("note.txt", "grün")
local id = Artifact.store_file("files", "note.txt", "note", {description = "d", custom = {n = 1}})
local got = Artifact.get("files", id)
assert(got.content == "grün" and got.metadata.name == "note.txt")
assert(got.metadata.description == "d" and got.metadata.custom.n == 1)
local bytes = ("\\0\\xFFab"):rep(500 * 1000)                     -- 2 MB, which takes two readings
write("big.bin", bytes:sub(1, 1000000)) write("big.bin", bytes:sub(1000001), "append")
local big = Artifact:store_file("files", "big.bin", "data", {name = "other"})
assert(Artifact.get("files", big).content == bytes)
assert(Artifact.get("files", {name = "other"}).metadata.size == #bytes)
write("empty", "")
assert(Artifact.get("files", Artifact.store_file("files", "empty", "data")).content == "")
write("big.bin", ("x"):rep(100000), "append")
local ok, why = pcall(Artifact.store_file, "files", "big.bin", "data")
assert(not ok and why.reason == "LIMIT_EXCEEDED" and why.metadata.got == "2100000")
return "done"
"""


def test_files_become_artifacts(run):
    """A file of the tenant's folder, whatever its bytes; another tenant has no such file."""
    assert run(STORE_FILE, "acme") == "done"
    attempt = "return select(2, pcall(Artifact.store_file, 'files', 'note.txt', 'note')).reason"
    assert run(attempt, "globex") == "FILE_NOT_FOUND"


def test_pages_that_do_not_fit_into_a_frame(run):
    """Two hundred descriptions of 19 KB each are listed; no call could carry a hundred of them."""
    source = """
      for i = 1, 200 do
        Artifact.store("wide", "note", "n" .. i, "x", {
          description = ("d"):rep(4000), pad = ("y"):rep(15000),
        })
      end
      return #Artifact.list("wide")
    """
    assert run(source, "lua-artifacts") == 200


def test_two_tenants_scripts_are_apart(run):
    """Another tenant's script finds nothing of an artifact whose id it knows, nor deletes it."""
    secret = os.urandom(16).hex()
    stored = f'return Artifact.store("apart", "note", "secret", "{secret}")'
    known = run(stored, "acme")
    chosen = f'{{content_hash = "{known["content_hash"]}", sequence = {known["sequence"]}}}'
    attempt = f"""
      local by_id, one = pcall(Artifact.get, "apart", {chosen})
      local by_name, two = pcall(Artifact.get, "apart", {{name = "secret"}})
      return {{
        by_id, by_name, one.reason, two.reason, #Artifact.list("apart"),
        #Artifact.query{{session_id = "apart"}}, Artifact.delete("apart", {chosen}),
      }}
    """
    not_found = "ARTIFACT_NOT_FOUND"
    assert run(attempt, "globex") == [False, False, not_found, not_found, 0, 0, False]
    assert run(f'return Artifact.get("apart", {chosen}).content', "acme") == secret


def test_checkpoints_of_scripts_have_artifacts(run):
    """A script goes back to the artifacts of its checkpoint, names, versions and bytes."""
    source = """
      local id = Session.create{name = "artful"}
      Session.set_current(id)
      State.save("session:" .. id, "k", 1)
      Artifact.store("", "note", "plan", "one")
      local checkpoint = Session.checkpoint(id)
      Artifact.store("", "note", "plan", "two", {keep_versions = 1})
      Artifact.store("", "note", "later", "x")
      assert(Session.checkpoints(id)[1].artifact_count == 1)
      local items, artifacts = Session.restore(id, checkpoint)
      assert(items == 0 and artifacts == 3)
      local left = Artifact.list("")
      assert(#left == 1 and left[1].name == "plan" and left[1].version == 1)
      return Artifact.get("", {name = "plan"}).content
    """
    for tenant in ("acme", "globex"):
        assert run(source, tenant) == "one"


def test_refusals(run):
    """Each mistake raises its reason."""
    source = "local found = {}\n" + "".join(
        f"found[{number}] = select(2, pcall(function() return {call} end)).reason\n"
        for number, call in enumerate(REFUSED, 1)
    )
    found = run(source + "return found", "globex")
    assert dict(zip(REFUSED, found, strict=True)) == REFUSED
