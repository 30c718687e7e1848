-- Publish one worker's report. Runs after clock.lua and before view.lua, whose KEYS and ARGV it shares.
-- KEYS[4] the worker's report; ARGV[4] the worker's id, ARGV[5] its report.
local limit_ms = tonumber(ARGV[2])
redis.call('SET', KEYS[4], ARGV[5], 'PX', ARGV[2])
redis.call('ZADD', KEYS[1], text(now_us), ARGV[4])
-- The dead, and those whom a clock that was set back has left in the future.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. text(now_us - limit_ms * 1000))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. text(now_us + limit_ms * 1000), '+inf')
if redis.call('PTTL', KEYS[1]) < limit_ms then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
