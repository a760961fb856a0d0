-- expects: held
-- What other sandboxes forgot.
for _, name in ipairs{
  "debug", "dofile", "loadfile", "loadstring", "python", "module", "setfenv", "getfenv",
  "newproxy", "lupa", "unpack", "gcinfo", "warn", "kit", "host",
} do assert(_G[name] == nil, name) end
for _, name in ipairs{"execute", "remove", "rename", "tmpname", "setlocale"} do
  assert(os[name] == nil, name)
end
for _, name in ipairs{"open", "popen", "lines", "read", "tmpfile", "stdin", "stdout", "close"} do
  assert(io[name] == nil, name)
end
for _, name in ipairs{"loadlib", "searchers", "searchpath"} do assert(package[name] == nil, name) end
for _, name in ipairs{"debug", "python", "lupa", "ffi", "/etc/passwd", "../x", "io\0"} do
  assert(not pcall(require, name), name)
end
assert(package.loaded.debug == nil and package.loaded.python == nil)
assert(os.getenv("PATH") == nil)
return "held"
