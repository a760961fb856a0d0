-- expects: RUN_TIME_LIMIT
::again:: goto again
