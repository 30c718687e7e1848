-- Replace the list of replicas. Claims do not give work to a draining one from here on, whatever their worker knows.
-- ARGV from 7: the list, its life time in ms, how many drain, their names, then the names of all.
local ttl_ms, count = ARGV[FIRST_ARGUMENT + 1], tonumber(ARGV[FIRST_ARGUMENT + 2])
redis.call('SET', REPLICAS, ARGV[FIRST_ARGUMENT], 'PX', ttl_ms)
redis.call('DEL', DRAINING)
local listed = {}
for i = FIRST_ARGUMENT + 3, #ARGV do
  if i < FIRST_ARGUMENT + 3 + count then
    redis.call('SADD', DRAINING, ARGV[i])
    redis.call('PEXPIRE', DRAINING, ttl_ms)
  end
  listed[ARGV[i]] = true
end
for _, field in ipairs(redis.call('HKEYS', CLAIMED)) do
  if not listed[string.sub(field, 3)] then
    redis.call('HDEL', CLAIMED, field)
  end
end
for _, replica in ipairs(redis.call('HKEYS', COUNTED)) do
  if not listed[replica] then
    redis.call('HDEL', COUNTED, replica)
  end
end
return 0
