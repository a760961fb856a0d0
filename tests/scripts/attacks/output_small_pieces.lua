-- expects: RUN_OUTPUT_LIMIT, RUN_TIME_LIMIT
-- limits: wall=3
while true do io.write("x") end
