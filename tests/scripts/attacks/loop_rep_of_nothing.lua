-- expects: RUN_TIME_LIMIT
-- A loop within one call of C: nothing in Lua can interrupt it.
return ("").rep("", 1 << 60)
