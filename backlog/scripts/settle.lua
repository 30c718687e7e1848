-- Charge what one worker sent without a lease, and the differences between what was charged and what was used.
-- ARGV from 7: worker, number of the batch, how many charges, then for each: tenant, band, weight, GPU-seconds; then
-- for each replica: name, prefill seconds, KV tokens, requests that were sent to it without a lease.
-- A batch is applied once: a number that is not above the last one changes nothing.
local me, number = ARGV[FIRST_ARGUMENT], tonumber(ARGV[FIRST_ARGUMENT + 1])
local last = tonumber(redis.call('GET', BATCH .. me) or '') or 0
if number <= last then
  return 0
end
redis.call('SET', BATCH .. me, text(number), 'PX', TTL_MS)
local first = FIRST_ARGUMENT + 3
local after = first + 4 * tonumber(ARGV[FIRST_ARGUMENT + 2])
for i = first, after - 1, 4 do
  local tenant, band, gpu_s = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 3])
  local now, before = virtual_now(band), tag_of(band, tenant)
  if gpu_s > 0 then
    before = finish_of(band, tenant)
  end
  local tag = before + gpu_s / tonumber(ARGV[i + 2])
  if redis.call('EXISTS', BAND .. band) == 1 then
    -- What the tenant's own tickets took it ahead by stays.
    tag = math.min(tag, math.max(before, now + LEAD_S))
  elseif tag - LEAD_S > now then
    set_virtual_now(band, tag - LEAD_S)
  end
  set_tag(band, tenant, tag)
end
for i = after, #ARGV, 4 do
  redis.call('HINCRBYFLOAT', CLAIMED, 'p:' .. ARGV[i], ARGV[i + 1])
  redis.call('HINCRBY', CLAIMED, 'k:' .. ARGV[i], ARGV[i + 2])
  redis.call('HINCRBY', COUNTED, ARGV[i], ARGV[i + 3])
  keep(CLAIMED)
  keep(COUNTED)
end
return 1
