-- Read one pool. Changes nothing.
-- ARGV from 7: most workers, most lines of the queue.
-- Returns: clock in us, replicas or nil, decision or nil, {id, report, age in us, ...}, virtual time of each band, since
-- when something waits or nil, {band, tenant, tickets, GPU-seconds, finish tag, ...}, leases as JSON, {field, value, ...}
-- of what was ever claimed, {replica, requests, ...} of how many were.
local most_workers, most_lines = ARGV[FIRST_ARGUMENT], tonumber(ARGV[FIRST_ARGUMENT + 1])
local window_us = HEARTBEAT_MS * 1000
local seen = redis.call('ZREVRANGEBYSCORE', WORKERS, text(now_us + window_us), text(now_us - window_us),
  'WITHSCORES', 'LIMIT', 0, most_workers)
local reports = {}
for i = 1, #seen, 2 do
  local report = redis.call('GET', REPORT .. seen[i])
  if report then
    reports[#reports + 1] = seen[i]
    reports[#reports + 1] = report
    reports[#reports + 1] = math.max(0, now_us - tonumber(seen[i + 1]))
  end
end
local lines = {}
if redis.call('EXISTS', SUMS) == 1 then
  for band = BANDS - 1, 0, -1 do
    for _, tenant in ipairs(redis.call('ZRANGE', BAND .. band, 0, most_lines - #lines / 5 - 1)) do
      lines[#lines + 1] = band
      lines[#lines + 1] = tenant
      lines[#lines + 1] = redis.call('ZCARD', LINE .. band .. ':' .. tenant)
      lines[#lines + 1] = redis.call('HGET', SUMS, band .. ':' .. tenant) or '0'
      lines[#lines + 1] = redis.call('HGET', VIRTUAL, 't:' .. band .. ':' .. tenant) or '0'
    end
    if #lines >= 5 * most_lines then
      break
    end
  end
end
local now_v = {}
for band = 0, BANDS - 1 do
  now_v[#now_v + 1] = redis.call('HGET', VIRTUAL, 'now:' .. band) or '0'
end
return {
  now_us, redis.call('GET', REPLICAS), redis.call('GET', DECISION), reports,
  now_v, redis.call('HGET', SUMS, 'since'), lines,
  redis.call('HVALS', LEASED), redis.call('HGETALL', CLAIMED), redis.call('HGETALL', COUNTED),
}
