-- expects: held
-- What a script preloads runs as the script, and nothing else does.
package.preload.debug = function() return {mine = true} end
assert(require("debug").mine)
package.loaded, package.preload = {}, {}
assert(not pcall(require, "python"))
package.loaded.string = nil
assert(require("string").rep)
return "held"
