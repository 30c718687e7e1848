-- Publish one worker's report, and the GPU-seconds in flight of its tenants that have a limit.
-- ARGV from 7: worker, report, then for each such tenant: name, GPU-seconds.
-- Returns how many tickets of this worker are known here.
local me = ARGV[FIRST_ARGUMENT]
redis.call('SET', REPORT .. me, ARGV[FIRST_ARGUMENT + 1], 'PX', HEARTBEAT_MS)
redis.call('ZADD', WORKERS, text(now_us), me)
keep(WORKERS)
redis.call('DEL', FLYING .. me)
for i = FIRST_ARGUMENT + 2, #ARGV, 2 do
  redis.call('HSET', FLYING .. me, ARGV[i], ARGV[i + 1])
  redis.call('PEXPIRE', FLYING .. me, HEARTBEAT_MS)
end
return redis.call('SCARD', OWNED .. me)
