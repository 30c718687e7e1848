-- Read one pool. Runs after clock.lua.
-- KEYS: 1 workers, 2 replicas, 3 decision. ARGV: 1 stem of the report keys, 2 heartbeat limit in ms, 3 most workers.
-- Returns: clock in us, replicas or nil, decision or nil, {id, report, age in us, id, report, age in us, ...}.
local window_us = ARGV[2] * 1000
local seen = redis.call('ZREVRANGEBYSCORE', KEYS[1], text(now_us + window_us), text(now_us - window_us),
  'WITHSCORES', 'LIMIT', 0, ARGV[3])
local reports = {}
for i = 1, #seen, 2 do
  local report = redis.call('GET', ARGV[1] .. seen[i])
  if report then
    reports[#reports + 1] = seen[i]
    reports[#reports + 1] = report
    reports[#reports + 1] = math.max(0, now_us - tonumber(seen[i + 1]))
  end
end
return {now_us, redis.call('GET', KEYS[2]), redis.call('GET', KEYS[3]), reports}
