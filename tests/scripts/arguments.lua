-- ARGS, arg, `...`, print, io.write, require and os.exit: a run and its surroundings.

assert(select("#", ...) == 2 and select(1, ...) == "one" and select(2, ...) == "")
assert(ARGS[1] == "one" and ARGS[2] == "" and ARGS[3] == nil and ARGS[0]:find("%.lua$"))
assert(ARGS.name == "Ann" and ARGS.count == "5" and ARGS.absent == nil)
assert(arg[0] == ARGS[0] and #arg == 2 and arg[1] == "one" and arg.name == nil)
assert(args == nil)
local args = args or {}
assert(next(args) == nil)

-- What is printed: tabs between, whole floats without their .0, no addresses.
print("a", 1, 2.0, 2.5, nil, true, {}, print, coroutine.create(print))
print()
assert(io.write("x", 1, " ", 2.5, "\n") == io)
for _, wrong in ipairs{{}, true, print} do assert(not pcall(io.write, wrong)) end
assert(not pcall(io.write, nil))

-- There is nothing to search, so what can be required is what there is.
assert(require("string") == string and require("JSON") == JSON and require("json") == JSON)
assert(require("cjson").encode({1}) == "[1]" and package.path == "" and package.loaded._G == _G)
package.preload.mine = function(name, how) return {name = name, how = how} end
local mine = require("mine")
assert(mine.name == "mine" and mine.how == ":preload:" and require("mine") == mine)
package.preload.quiet = function() end
assert(require("quiet") == true)
local ok, e = pcall(require, "lib.helpers")
assert(not ok and e:find("module 'lib.helpers' not found", 1, true) and e:find("has no files", 1, true))
assert(not pcall(require, nil) and require == _G.require and package.loaders == nil)
assert(package.loadlib == nil and package.searchpath == nil)
package.loaded, package.preload = nil, nil
assert(require("string") == string and require("mine") == mine)

return "done"
