-- expects: RUN_MEMORY_LIMIT
-- It may say so of itself; nobody else is told anything.
error("not enough memory", 0)
