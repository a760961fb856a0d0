-- expects: held
-- Every way that the tools for files might offer out of the tenant's folder.
local function tried(name, arguments)
  local ok, done = pcall(Tool.execute, name, arguments)
  return ok and done.success and done.result or nil
end

local outside = {
  "/etc/passwd", "../../../../etc/passwd", "a/../../b", "/proc/self/fd/0", ".llmspell",
  "a\0/../../etc/passwd", ("a/"):rep(100),
}
for _, path in ipairs(outside) do
  for _, operation in ipairs{"read", "write", "list_dir"} do
    assert(not tried("file-operations", {operation = operation, path = path, input = "x"}), path)
  end
  assert(not tried("file-operations", {operation = "copy", source_path = path, target_path = "stolen"}))
  assert(not tried("archive-handler", {operation = "create", path = "stolen.zip", input = {path}}))
  assert(not tried("file-search", {pattern = "root", path = path}))
end

-- Programs of the list are honest; what they are asked to do is not.
local function said(executable, ...)
  local done = tried("process-executor", {executable = executable, arguments = {...}})
  return done and done.stdout or ""
end
assert(said("cat", "/etc/passwd") == "" and said("cat", "/proc/self/environ") == "")
assert(said("head", "-c", "10", "/proc/1/maps") == "" and said("ls", "/proc/1") == "")
assert(said("find", ".", "-maxdepth", "0", "-exec", "echo", "ran", ";") == "")
for _, name in ipairs{"sh", "bash", "rm", "python3", "/bin/sh", "../sh", "sh\0ls", "env"} do
  assert(not tried("process-executor", {executable = name, arguments = {"-c", "id"}}))
end
assert(not tried("process-executor", {executable = "ls", environment = {LD_PRELOAD = "x"}}))
assert(not tried("process-executor", {executable = "ls", working_directory = "../.."}))
return "held"
