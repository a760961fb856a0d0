-- Logger: lines of the run's log, beside what is printed.

Debug.clearCaptured()
Logger.trace("t") Logger.debug("d") Logger.info("i") Logger.warn("w", {n = 1}) Logger:error("e")
local lines = Debug.getCapturedEntries()
assert(#lines == 3 and lines[1].level == "info" and lines[2].metadata.n == 1 and lines[3].message == "e")

-- A message may be a function, which runs only where the line is wanted, and any value.
local made = 0
Logger.debug(function() made = made + 1 end)
Logger.info(function() made = made + 1 return "made" end)
assert(made == 1)
Logger.info(nil) Logger.info(5) Logger.info({1}) Logger.info("\255\254 cut") Logger.info(("é"):rep(5000))
lines = Debug.getCapturedEntries(5)
assert(lines[1].message == "nil" and lines[2].message == "5" and lines[3].message == "{ 1, }")
assert(utf8.len(lines[4].message) and #lines[5].message <= 4099)

-- What JSON cannot hold is shown as text.
Logger.info("odd", {f = print, cycle = _G})
Debug.setLevel("trace")
Logger.trace("now")
assert(Debug.getCapturedEntries(1)[1].level == "trace")

return "done"
