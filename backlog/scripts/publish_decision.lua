-- Set the last decision and put it at the head of the capped history, once even if the call is repeated.
-- KEYS: 1 decision, 2 history. ARGV: 1 decision, 2 its TTL in ms, 3 how many to keep, 4 TTL of the history in ms.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if redis.call('LINDEX', KEYS[2], 0) ~= ARGV[1] then
  redis.call('LPUSH', KEYS[2], ARGV[1])
end
redis.call('LTRIM', KEYS[2], 0, ARGV[3] - 1)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
