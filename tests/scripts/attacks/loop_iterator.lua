-- expects: RUN_TIME_LIMIT
for _ in function() return 1 end do end
