-- Forget one worker at once instead of waiting for its heartbeat to run out.
-- KEYS: 1 workers, 2 the worker's report. ARGV: 1 the worker's id.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
